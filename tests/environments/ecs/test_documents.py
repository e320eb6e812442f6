"""The exported task definition is the one that the driver registers."""

import json

import pytest

from deployments.manifests import documents_of
from environments.drivers.base import Exportable, Software
from environments.models import ConfigEntry
from tests.aws.company import REPOSITORY, Company, digest

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_it_is_what_is_registered(company: Company) -> None:
    driver: object = company.driver
    assert isinstance(driver, Exportable)
    software = Software("1.5.0", REPOSITORY, digest("1.5.0"))
    (document,) = driver.documents(company.target, software, {})
    assert company.aws.changes == {}, "looking changes nothing"
    company.deploy("1.5.0")
    (sent,) = company.aws.bodies["RegisterTaskDefinition"]
    written = json.loads(document.text)
    for container in (*sent["containerDefinitions"], *written["containerDefinitions"]):
        container.get("dockerLabels", {}).pop("controlplane.operation", None)
    assert written == sent


def test_where_a_tag_decides_the_definition_stays_as_it_is(company: Company) -> None:
    company.settings(force_new_deployment=True)
    driver: object = company.driver
    assert isinstance(driver, Exportable)
    (document,) = driver.documents(company.target, Software("1.5.0", REPOSITORY, digest("1.5.0")), {})
    shown = json.loads(document.text)["containerDefinitions"]
    there = company.described(company.serving())["containerDefinitions"]
    images = [[one["image"] for one in containers] for containers in (shown, there)]
    assert images[0] == images[1]
    assert digest("1.5.0") not in document.text and "controlplane.version" not in document.text


def test_a_plain_variable_of_the_definition_that_is_one_of_our_secrets_is_masked(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "8000")  # what the definition in service has as PORT
    environment = company.placement.environment
    company.release("1.5.0")
    (before,) = documents_of(environment, company.placement.service.slug, "1.5.0")
    ConfigEntry.objects.create(environment=environment, key="DATABASE_PASSWORD", secret="env:DATABASE_PASSWORD")
    (document,) = documents_of(environment, company.placement.service.slug, "1.5.0")
    assert '"8000"' in before.text and "8000" not in document.text
    assert json.loads(document.text)["containerDefinitions"]
