"""What a sender is answered, and that a body is stored, and committed, before it hears 202."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections

from incidents.intake import app as app_module
from incidents.intake.app import LARGEST_BODY, IntakeApp
from incidents.intake.gate import Refusal, digest_of
from incidents.models import AlertSource, RawAlert
from tests.incidents.alerting import TOKEN, source

pytestmark = pytest.mark.django_db(transaction=True)

BEARER = {"authorization": f"Bearer {TOKEN}"}


class Web:
    """The application on its own event loop; `ask` sends one request, in pieces."""

    def __init__(self) -> None:
        self.passed_on: list[str] = []
        self.app = IntakeApp(self._following)
        self.read = 0

    async def _following(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed_on.append(scope.get("path", scope["type"]))

    def ask(self, path: str, *pieces: bytes, method: str = "POST", **headers: str) -> tuple[int, Any, dict[str, str]]:
        answer: tuple[int, Any, dict[str, str]] = asyncio.run(self._ask(path, pieces or (b"",), method, headers))
        return answer

    def ask_together(self, *requests: tuple[str, bytes, dict[str, str]]) -> list[int]:
        async def all_of_them() -> list[int]:
            asked = [self._ask(path, (body,), "POST", headers) for path, body, headers in requests]
            return [status for status, _, _ in await asyncio.gather(*asked)]

        return asyncio.run(all_of_them())

    async def _ask(self, path: str, pieces: tuple[bytes, ...], method: str, headers: dict[str, str]) -> Any:
        left = list(pieces)
        sent: list[Any] = []

        async def receive() -> Any:
            self.read += 1
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left)}

        async def send(message: Any) -> None:
            sent.append(message)

        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await self.app({"type": "http", "path": path, "method": method, "headers": named}, receive, send)
        if not sent:
            return 0, None, {}
        return sent[0]["status"], json.loads(sent[1]["body"]), {k.decode(): v.decode() for k, v in sent[0]["headers"]}

    def close(self) -> None:
        asyncio.run(self.app._store.run(connections.close_all))


@pytest.fixture
def web() -> Any:
    found = Web()
    yield found
    found.close()


def event(**fields: Any) -> bytes:
    payload = {"summary": "Disk full", "source": "db-1", "severity": "critical"}
    return json.dumps({"routing_key": TOKEN, "event_action": "trigger", "payload": payload} | fields).encode()


def test_a_body_is_stored_as_it_came_whatever_it_says(web: Web) -> None:
    source()
    for body in (b'{"version": "4"}', b"no json \x00\xff at all", b""):
        status, answer, _ = web.ask("/intake/alertmanager", body, **BEARER)
        assert status == 202
        raw = RawAlert.objects.get(pk=answer["number"])
        assert bytes(raw.body) == body and raw.state == RawAlert.State.STORED


def test_a_body_in_pieces_is_one(web: Web) -> None:
    source("plain")
    assert web.ask("/intake/plain", b"one ", b"two", **BEARER)[0] == 202
    assert bytes(RawAlert.objects.get().body) == b"one two"


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer "}],
)
def test_a_stranger_is_refused_before_the_body_is_read(web: Web, headers: dict[str, str]) -> None:
    source()
    status, problem, answered = web.ask("/intake/alertmanager", b"x" * 1000, **headers)
    assert status == 401 and problem["status"] == 401
    assert answered["content-type"] == "application/problem+json"
    assert web.read == 0 and not RawAlert.objects.exists()


def test_a_token_is_good_for_its_own_form_only(web: Web) -> None:
    source("plain")
    assert web.ask("/intake/alertmanager", b"{}", **BEARER)[0] == 401
    assert web.ask("/intake/plain", b"{}", **BEARER)[0] == 202


def test_nobody_can_post_as_the_control_plane(web: Web) -> None:
    AlertSource.objects.create(slug="control-plane", kind="own", token_digest=digest_of(TOKEN))
    for path in ("/intake/alertmanager", "/intake/plain", "/intake/own"):
        assert web.ask(path, b"{}", **BEARER)[0] in (401, 404)


def test_a_paused_source_is_told_so(web: Web) -> None:
    source(paused=True)
    status, problem, _ = web.ask("/intake/alertmanager", b"{}", **BEARER)
    assert status == 403 and "paused" in problem["detail"]
    assert not RawAlert.objects.exists()


@pytest.mark.parametrize("declared", [True, False])
def test_more_than_a_megabyte_is_not_taken(web: Web, declared: bool) -> None:
    source()
    extra = {"content_length": str(LARGEST_BODY + 1)} if declared else {}
    pieces = [b"x" * 2**18] * 4
    assert web.ask("/intake/alertmanager", *pieces, **BEARER)[0] == 202
    status, _, headers = web.ask("/intake/alertmanager", *pieces, b"x", **BEARER, **extra)
    assert status == 413 and headers["connection"] == "close"
    assert RawAlert.objects.count() == 1


def test_other_methods_and_addresses(web: Web) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        status, _, headers = web.ask("/intake/plain", method=method)
        assert status == 405 and headers["allow"] == "POST"
    assert web.ask("/intake/nothing", b"{}", **BEARER)[0] == 404
    web.ask("/incidents", method="GET")
    assert web.passed_on == ["/incidents"]


def test_a_packed_body_is_refused(web: Web) -> None:
    source()
    assert web.ask("/intake/alertmanager", b"\x1f\x8b", **BEARER, content_encoding="gzip")[0] == 415


def test_pagerduty_is_answered_as_pagerduty_answers(web: Web) -> None:
    source("pagerduty")
    for path in ("/v2/enqueue", "/intake/pagerduty", "/intake/pagerduty/v2/enqueue"):
        status, answer, _ = web.ask(path, event(dedup_key="disk"))
        assert status == 202
        assert answer == {"status": "success", "message": "Event processed", "dedup_key": "disk"}
    _, answer, _ = web.ask("/v2/enqueue", event())
    assert answer["dedup_key"] == f"event-{RawAlert.objects.latest('pk').pk}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (event(routing_key="wrong"), 401), (event(routing_key=7), 400),
        (event(routing_key="\ud800"), 401), (b"[]", 400), (b"{", 400), (b"\xff", 400),
        (b"[" * 100_000, 400), (b"{}", 400), (event(routing_key=""), 401), (event(routing_key="x" * 10_000), 401),
    ],
)  # fmt: skip
def test_an_event_without_a_good_routing_key_is_not_stored(web: Web, body: bytes, status: int) -> None:
    source("pagerduty")
    assert web.ask("/v2/enqueue", body)[0] == status
    assert not RawAlert.objects.exists()


def test_only_a_few_strangers_are_listened_to_at_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "STRANGERS_AT_ONCE", 0)
    source("pagerduty")
    status, _, headers = web.ask("/v2/enqueue", event())
    assert status == 503 and headers["retry-after"]
    assert web.read == 0


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "BODY_SECONDS", 0.01)

    async def never() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(Refusal) as refusal:
        asyncio.run(app_module._body(never))
    assert refusal.value.status == 408


def signed(body: bytes, secret: str = "signing-secret-1") -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_a_signed_source_takes_signed_bodies_only(web: Web, data_dir: Path) -> None:
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets/signing").write_text("signing-secret-1\n")
    source(signing_secret="file:signing")
    body = b'{"version": "4"}'
    assert web.ask("/intake/alertmanager", body, **BEARER)[0] == 401
    assert web.ask("/intake/alertmanager", body, **BEARER, x_signature_256=signed(body, "another"))[0] == 401
    assert web.ask("/intake/alertmanager", body + b" ", **BEARER, x_signature_256=signed(body))[0] == 401
    assert web.ask("/intake/alertmanager", body, **BEARER, x_signature_256="sha256=\xe9")[0] == 401
    assert not RawAlert.objects.exists()
    assert web.ask("/intake/alertmanager", body, **BEARER, x_signature_256=signed(body))[0] == 202
    assert web.ask("/intake/alertmanager", body, x_signature_256=signed(body))[0] == 401


def test_a_signature_that_cannot_be_checked_is_no_good_signature(web: Web, data_dir: Path) -> None:
    source(signing_secret="file:nowhere")
    status, problem, headers = web.ask("/intake/alertmanager", b"{}", **BEARER, x_signature_256=signed(b"{}"))
    assert status == 503 and "file:nowhere" in problem["detail"] and headers["retry-after"] == "5"
    assert not RawAlert.objects.exists()


def test_without_the_database_nothing_is_promised(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    source()
    assert web.ask("/intake/alertmanager", b"1", **BEARER)[0] == 202

    def lost(rows: Any) -> Any:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr("incidents.intake.storing._insert", lost)
    status, _, headers = web.ask("/intake/alertmanager", b"2", **BEARER)
    assert status == 503 and headers["retry-after"] == "2"
    monkeypatch.undo()
    assert web.ask("/intake/alertmanager", b"3", **BEARER)[0] == 202
    assert sorted(bytes(raw.body) for raw in RawAlert.objects.all()) == [b"1", b"3"]


def test_a_connection_that_was_closed_meanwhile_is_opened_again(web: Web) -> None:
    source()
    assert web.ask("/intake/alertmanager", b"1", **BEARER)[0] == 202
    asyncio.run(web.app._store.run(_cut))
    assert web.ask("/intake/alertmanager", b"2", **BEARER)[0] == 202
    assert RawAlert.objects.count() == 2


def _cut() -> None:
    connections["default"].connection.close()


def test_bodies_that_come_together_all_have_their_own_number(web: Web) -> None:
    source()
    asked = [("/intake/alertmanager", str(number).encode(), BEARER) for number in range(200)]
    assert web.ask_together(*asked) == [202] * 200
    assert {bytes(raw.body) for raw in RawAlert.objects.all()} == {body for _, body, _ in asked}


def test_a_source_that_was_removed_meanwhile_spoils_nobody_elses_body(web: Web) -> None:
    gone, stays = source("plain", "token-of-another-1"), source()
    web.ask("/intake/alertmanager", b"{}", **BEARER)  # now the process knows both
    gone.delete()
    other = {"authorization": "Bearer token-of-another-1"}
    asked: list[tuple[str, bytes, dict[str, str]]] = [
        ("/intake/plain", b"a", other), ("/intake/alertmanager", b"b", BEARER), ("/intake/alertmanager", b"c", BEARER)
    ]  # fmt: skip
    assert web.ask_together(*asked) in ([503, 202, 202], [401, 202, 202])
    assert {raw.source_id for raw in RawAlert.objects.all()} == {stays.pk}


def test_the_answer_comes_after_the_commit(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection sees the body at the moment at which the sender is answered."""
    source()
    seen: list[int] = []
    answer: Callable[..., Any] = app_module._answer

    async def look_first(*arguments: Any) -> None:
        seen.append(await asyncio.to_thread(_count))
        await answer(*arguments)

    monkeypatch.setattr(app_module, "_answer", look_first)
    web.ask("/intake/alertmanager", b"{}", **BEARER)
    assert seen == [1]


def _count() -> int:
    try:
        return RawAlert.objects.count()
    finally:
        connections.close_all()
