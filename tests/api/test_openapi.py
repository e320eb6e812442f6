"""What /api/v1/openapi.json promises is true of every answer, whether or not the request keeps to it."""

from typing import Any

import pytest
import schemathesis
from django.db.backends.base.base import BaseDatabaseWrapper
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from controlplane.wsgi import application
from tests.api.conftest import Calls
from tests.estate import Estate

DOCUMENT = "/api/v1/openapi.json"
# A request may keep to the description and still ask for what cannot be: an unknown service, a blank reason.
WELL_FORMED = ["2xx", "404", "409", "422"]
CONFIG = {
    "generation": {"database": "none"},
    "checks": {"positive_data_acceptance": {"expected-statuses": WELL_FORMED}},
}
FEW = settings(
    max_examples=15,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow],
)


# Webhooks are signed by what no description can give: tests/deployments/pipelines/test_webhooks.py.
schema = schemathesis.openapi.from_wsgi(DOCUMENT, application, config=SchemathesisConfig.from_dict(CONFIG)).exclude(
    path_regex="^/api/v1/webhooks/"
)


@pytest.fixture(autouse=True)
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application answers in this thread; it must not close the connection of the test's transaction."""
    monkeypatch.setattr(BaseDatabaseWrapper, "close_if_unusable_or_obsolete", lambda self: None)


@pytest.fixture
def headers(ada: Person, estate: Estate, calls: Calls) -> dict[str, str]:
    return calls(ada).headers


@schema.parametrize()
@FEW
def test_every_answer_is_as_promised(case: Any, headers: dict[str, str]) -> None:
    case.call_and_validate(headers=headers)


@schema.parametrize()
@FEW
def test_also_where_something_exists(case: Any, headers: dict[str, str], there: dict[str, str]) -> None:
    """With a real operation, its plan's digest, a real service and release, and a backup."""
    case.path_parameters |= {
        name: int(value) if value.isdecimal() else value
        for name, value in there.items()
        if name in case.path_parameters
    }
    if isinstance(case.body, dict):
        digest = Operation.objects.values_list("plan_digest", flat=True).get(pk=there["operation_id"])
        real = {
            "service": "api", "environment": "production", "version": "1.5.0", "plan_digest": digest,
            "step": "production-1-swap",
        }  # fmt: skip
        case.body |= {name: value for name, value in real.items() if name in case.body}
    promises = [
        not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    ]  # fmt: skip
    case.call_and_validate(headers=headers, checks=promises)
