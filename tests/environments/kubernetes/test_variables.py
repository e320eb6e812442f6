"""A container gets the values of the configuration as they are, whatever a kubelet reads into them."""

import re

import pytest

from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.town import Town

SYNTAX = re.compile(r"\$(\$|\(([^)]*)\))")


def given_to(container: Object) -> dict[str, str]:
    """What a kubelet makes of a container's variables: `$$` is a dollar, `$(NAME)` a variable that stands before."""
    values: dict[str, str] = {}

    def read(found: re.Match[str]) -> str:
        return "$" if found[1] == "$" else values.get(found[2], found[0])

    for one in container["env"]:
        if "valueFrom" not in one:
            values[one["name"]] = SYNTAX.sub(read, one["value"])
    return values


def test_how_a_kubelet_reads_them() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A) $$(A) $(C) $A $$ $"}]
    assert given_to({"env": env}) == {"A": "1", "B": "1 $(A) $(C) $A $ $"}


@pytest.mark.parametrize("value", ["pa$$word", "see $(LOG_LEVEL)", "$$(LOG_LEVEL)", "$HOME", "5 $", "$$$", "none"])
def test_a_value_arrives_as_it_was_configured(town: Town, value: str) -> None:
    town.placement.environment.configuration.create(key="ZZ_LAST", value=value)
    assert town.deploy("1.4.0") is None
    container = town.deployment["spec"]["template"]["spec"]["containers"][0]
    assert given_to(container) == {"LOG_LEVEL": "info", "ZZ_LAST": value}
    assert town.rollout("1.4.0").steps == ()
