"""Whatever is wrong with a request, the answer is application/problem+json with the right status and words."""

import json
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from deployments.models import Release
from environments import api as environments_api
from tests.api.conftest import Calls, assert_problem
from tests.estate import Estate

GOOD = {
    "service": "api", "version": "2.0.0", "image": "registry/api:2.0.0", "digest": "sha256:" + "a" * 64,
    "commit": "0a1b2c3", "ci": "passed",
}  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"", b"nonsense", b"\xff\xfe{}", '{"service": "api"}'.encode("utf-16"), b'{"service": NaN}',
        b'{"service": "\\ud800"}', b'{"\\udfff": 1}', b"[" * 100_000, b"9" * 5000,
        b'{"service": "api", "service": "shop"}',
    ],
)  # fmt: skip
def test_what_is_not_json_is_400(alice: Person, calls: Calls, body: bytes) -> None:
    answer = calls(alice).raw("releases", body)
    # No body at all is JSON that lacks everything.
    assert_problem(answer, 400 if body else 422)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_only_json_is_read(alice: Person, calls: Calls, content_type: str) -> None:
    assert_problem(calls(alice).raw("releases", json.dumps(GOOD).encode(), content_type), 415, "application/json")


def test_a_large_body_is_413(alice: Person, calls: Calls) -> None:
    assert_problem(calls(alice).raw("releases", b'{"service": "' + b"a" * 1_100_000 + b'"}'), 413)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"extra": 1}, "body.extra"),
        ({"service": 1}, "body.service"),
        ({"service": None}, "body.service"),
        ({"service": "a b"}, "body.service"),
        ({"service": "a" * 61}, "body.service"),
        ({"version": "1 0"}, "body.version"),
        ({"version": "1.0\n"}, "body.version"),
        ({"version": "../1"}, "body.version"),
        ({"version": "1" * 101}, "body.version"),
        ({"image": "a\0b"}, "body.image"),
        ({"image": ""}, "body.image"),
        ({"digest": "sha256:" + "A" * 64}, "body.digest"),
        ({"digest": "sha256:" + "a" * 63}, "body.digest"),
        ({"digest": "a" * 64}, "body.digest"),
        ({"commit": "c" * 81}, "body.commit"),
        ({"ci": "maybe"}, "body.ci"),
        ({"ci": True}, "body.ci"),
    ],
)
def test_every_field_is_bounded(
    alice: Person, estate: Estate, calls: Calls, change: dict[str, Any], field: str
) -> None:
    told = assert_problem(calls(alice).post("releases", GOOD | change), 422, field)
    assert [error["field"] for error in told["errors"]] == [field]
    assert not Release.objects.filter(version="2.0.0").exists()


@pytest.mark.parametrize("body", [[], "text", 5, None, True, [GOOD]])
def test_a_body_that_is_no_object_is_422(alice: Person, calls: Calls, body: Any) -> None:
    assert_problem(calls(alice).raw("releases", json.dumps(body).encode()), 422)


def test_a_missing_field_is_named(alice: Person, calls: Calls) -> None:
    told = assert_problem(calls(alice).post("releases", {"service": "api"}), 422)
    assert {error["field"] for error in told["errors"]} == {"body.version", "body.image", "body.digest"}


@pytest.mark.parametrize("reason", ["", "a\0b", "x" * 2001, 3], ids=["empty", "nul", "long", "number"])
def test_a_reason_is_a_bounded_text(alice: Person, estate: Estate, calls: Calls, reason: Any) -> None:
    body = {"service": "api", "environment": "production", "version": "1.5.0", "reason": reason}
    assert_problem(calls(alice).post("deployments", body), 422, "body.reason")


def test_a_blank_reason_is_asked_for_in_words(alice: Person, estate: Estate, calls: Calls) -> None:
    body = {"service": "api", "environment": "production", "version": "1.5.0", "reason": "  "}
    assert_problem(calls(alice).post("deployments", body), 422, "Say why")
    assert not Operation.objects.exists()


@pytest.mark.parametrize("number", ["0", str(2**63 - 1), str(2**63), "9" * 30, "9" * 5000, "-1", "1.5", "x", "%00"])
@pytest.mark.parametrize("rest", ["", "/events"])
def test_a_number_of_no_operation_is_404(alice: Person, calls: Calls, number: str, rest: str) -> None:
    assert_problem(calls(alice).get(f"operations/{number}{rest}"), 404)


@pytest.mark.parametrize("after", ["-1", str(2**63), "x", "", "1.5", "%00"])
def test_a_cursor_is_a_number(alice: Person, estate: Estate, calls: Calls, after: str) -> None:
    number = calls(alice).deploy().json()["operation"]
    assert_problem(calls(alice).get(f"operations/{number}/events?after={after}"), 422, "after")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/environments", "GET"),
        ("GET", "/api/v1/releases", "POST"),
        ("PUT", "/api/v1/operations/1", "GET"),
        ("TRACE", "/api/v1/operations/1/cancel", "POST"),
        ("OPTIONS", "/api/v1/deployments", "POST"),
    ],
)
def test_another_method_is_405(db: None, method: str, path: str, allowed: str) -> None:
    answer = Client().generic(method, path)
    assert_problem(answer, 405, allowed)
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/api/", "/api/v1", "/api/v1/", "/api/v2/environments", "/api/v1/environments/", "/api/v1/nothing"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_address_is_404(db: None, path: str, method: str) -> None:
    assert_problem(Client(enforce_csrf_checks=True).generic(method, path), 404)


def test_a_database_that_is_away_is_503_and_a_fault_is_500(
    alice: Person, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: Exception) -> None:
        def environments_out(actor: object) -> None:
            raise error

        monkeypatch.setattr(environments_api, "environments_out", environments_out)

    fails(OperationalError("connection refused at 10.0.0.5"))
    away = calls(alice).get("environments")
    assert "10.0.0.5" not in assert_problem(away, 503)["detail"]
    assert away.headers["Retry-After"]

    fails(ZeroDivisionError("a secret"))
    assert "secret" not in assert_problem(calls(alice).get("environments"), 500)["detail"]
