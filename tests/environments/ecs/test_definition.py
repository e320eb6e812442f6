"""What a revision is, and what becomes of it when its image is replaced: pure rules, and words for wrong settings."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.operations.errors import StepError
from environments.drivers.base import Target
from environments.drivers.ecs.driver import EcsDriver
from environments.drivers.ecs.service import OPERATION, VERSION, Definition, short
from environments.drivers.ecs.settings import DEFAULTS
from environments.image_names import digest_in, repository_of, tag_of

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "repository", "tag", "digest"),
    [
        ("api", "api", "", ""),
        ("api:1.4.0", "api", "1.4.0", ""),
        (f"api@{DIGEST}", "api", "", DIGEST),
        (f"host:5000/team/api:1.4.0@{DIGEST}", "host:5000/team/api", "1.4.0", DIGEST),
        ("host:5000/api", "host:5000/api", "", ""),
    ],
)
def test_the_parts_of_an_image(image: str, repository: str, tag: str, digest: str) -> None:
    assert (repository_of(image), tag_of(image), digest_in(image)) == (repository, tag, digest)


def definition(container: str = "", **api: Any) -> Definition:
    containers = [{"name": "api", "image": "api:1", "memory": 128, **api}]
    content = {"taskDefinitionArn": "arn:aws:ecs:r:1:task-definition/api:7", "revision": 7, "family": "api"}
    return Definition({**content, "containerDefinitions": containers}, container)


labels = st.dictionaries(st.sampled_from(["team", OPERATION, VERSION]), st.text(min_size=1))
images = st.text("abc:/.@", min_size=1)


@given(images, labels, images, labels)
def test_the_shape_does_not_depend_on_the_image_or_on_our_labels(a: str, own: Any, b: str, ours: Any) -> None:
    kept = {key: value for key, value in own.items() if key == "team"}
    ours = {key: value for key, value in ours.items() if key != "team"}
    one, other = definition(image=a, dockerLabels=own), definition(image=b, dockerLabels={**kept, **ours})
    assert one.shape == other.shape


@given(labels, st.text(min_size=1))
def test_the_shape_depends_on_all_else(own: Any, value: str) -> None:
    assert definition(dockerLabels=own).shape != definition(dockerLabels=own, command=[value]).shape
    assert definition().shape != definition(dockerLabels={"team": value}).shape


@pytest.mark.parametrize(
    ("values", "version"),
    [
        ({"dockerLabels": {VERSION: "1.5.0"}, "image": f"api@{DIGEST}"}, "1.5.0"),
        ({"image": f"api:1.4.0@{DIGEST}"}, "1.4.0"),
        ({"image": f"api@{DIGEST}"}, "unknown"),
    ],
)
def test_the_version_it_says_it_is(values: Any, version: str) -> None:
    assert definition(**values).version == version


def test_a_container_has_to_be_named_when_there_are_several() -> None:
    one = definition()
    two = Definition(
        {**one.content, "containerDefinitions": [*one.content["containerDefinitions"], {"name": "log"}]}, ""
    )
    with pytest.raises(StepError, match=r"api:7 has several containers: it has api, log\. Name one as container"):
        assert two.image
    with pytest.raises(StepError, match="api:7 has no container web: it has api"):
        assert definition("web").image


def test_short_names() -> None:
    assert short("arn:aws:ecs:us-east-1:123456789012:task-definition/api:7") == "api:7"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, {"region": "is missing", "cluster": "is missing"}),
        ({"region": "r", "cluster": ""}, {"cluster": "must not be empty"}),
        ({"region": "r", "cluster": "c", "checks": 0}, {"checks": "has to be a whole number from 1 to 100"}),
        ({"region": "r", "cluster": "c", "poll_seconds": 0}, {"poll_seconds": "has to be a number of seconds above 0"}),
        ({"region": "r", "cluster": 7}, {"cluster": "has to be text"}),
        (
            {"region": "r", "cluster": "c", "force_new_deployment": "yes"},
            {"force_new_deployment": "has to be true or false"},
        ),
    ],
)
def test_wrong_settings_in_words(settings: dict[str, Any], words: dict[str, str]) -> None:
    target = Target("production", "api", (), "", "/health", {**settings, "configuration": "c0ffee"})
    with pytest.raises(StepError) as raised:
        EcsDriver().running(target)
    assert raised.value.permanent
    for key, reason in words.items():
        assert f"{key} {reason}" in str(raised.value)


def test_a_setting_that_is_none() -> None:
    wrong = EcsDriver().check_settings({"region": "r", "cluster": "c", "clutser": "x"})
    assert list(wrong) == ["clutser"] and wrong["clutser"].startswith("is no setting of it; there are region,")


def test_every_setting_is_documented_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "drivers-ecs.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(DEFAULTS)
