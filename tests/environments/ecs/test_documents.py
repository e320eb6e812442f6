"""The exported task definition is the one that the driver registers."""

import json

import pytest

from environments.drivers.base import Exportable, Software
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
