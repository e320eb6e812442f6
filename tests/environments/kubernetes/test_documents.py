"""The exported manifests are what the driver applies: applied by hand they would change nothing."""

import base64
import binascii

import pytest
import yaml

from environments.drivers.kubernetes.api import MANAGER
from environments.drivers.kubernetes.fields import beyond, held_by, unlike
from environments.secrets import referenced_variables
from tests.environments.kubernetes.town import DRIVER, NAME, Town, release


@pytest.mark.parametrize(
    ("kind", "name"), [("Deployment", NAME), ("Service", NAME), ("HorizontalPodAutoscaler", f"{NAME}-hpa")]
)
def test_each_is_what_was_applied(town: Town, kind: str, name: str) -> None:
    if kind == "HorizontalPodAutoscaler":
        town.settings(autoscale={})
    assert town.deploy("1.4.0") is None
    documents = DRIVER.documents(town.target, release("1.4.0"), referenced_variables(town.placement.environment))
    written = next(one for one in map(yaml.safe_load, (one.text for one in documents)) if one["kind"] == kind)
    applied = town.cluster.get(kind, name)
    assert unlike(written, applied) == []
    # Nor did we apply anything that the file does not say, but for the marks of the operation.
    more = {one.rpartition("/")[2] for one in beyond(held_by(applied, MANAGER), applied, written)}
    assert more == {"metadata.annotations"}


def test_secrets_are_named_and_never_shown(town: Town) -> None:
    documents = DRIVER.documents(town.target, release("1.4.0"), referenced_variables(town.placement.environment))
    text = "".join(one.text for one in documents)
    assert "hunter2-sentinel" not in text
    (secret,) = [yaml.safe_load(one.text) for one in documents if one.name == "secret.yaml"]
    assert "stringData" not in secret, "which a cluster would take as it stands"
    assert secret["data"] == {"DATABASE_PASSWORD": "${env:DATABASE_PASSWORD}"}
    with pytest.raises(binascii.Error):  # so applied as it is, it is refused
        base64.b64decode(secret["data"]["DATABASE_PASSWORD"], validate=True)
