"""Commits are told what became of their deployments: each state once, whatever is lost, and nothing waits for it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from joserfc import jwt

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine, transitions
from controlplane.operations.masking import MASK
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import CommitNotice, Pipeline, Release, ReleaseReport
from deployments.pipelines import github, github_calls
from deployments.pipelines.telling import STATES
from deployments.services import request_deployment
from tests.deployments.pipelines.conftest import make_rule
from tests.deployments.pipelines.issuer import RSA, Serving
from tests.estate import Estate, paper

Answer = tuple[int, dict[str, str], bytes]
TOKEN = "ghs_this-is-between-us"
SHA = "d" * 40


class GitHub:
    """What there is on the other side. lose: answers that are lost after their effect; refuse: the next statuses.

    padding: before the words of a refusal.
    """

    def __init__(self) -> None:
        self.deployments: list[dict[str, Any]] = []
        self.statuses: dict[int, list[dict[str, Any]]] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.lose, self.refuse, self.app_tokens = 0, list[int](), list[str]()
        self.headers: dict[str, str] = {}
        self.padding = ""

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        self.calls.append((method, path, headers.get("Authorization", "")))
        if self.refuse:
            message = f"{self.padding}Bad credentials for {TOKEN}"
            return self.refuse.pop(0), self.headers, json.dumps({"message": message}).encode()
        status, told = self.answer(method, path.partition("?")[0], json.loads(body or b"null"))
        content = json.dumps(told).encode()
        if method == "POST" and self.lose:
            self.lose -= 1
            return status, {"Content-Length": str(len(content) + 9)}, content[:5]
        return status, {}, content

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/access_tokens"):
            self.app_tokens.append(self.calls[-1][2].removeprefix("Bearer "))
            return 201, {"token": TOKEN, "expires_at": (timezone.now() + timedelta(hours=1)).isoformat()}
        if path == "/repos/pitchey/api/deployments":
            if method == "POST":
                self.deployments.append({**body, "id": len(self.deployments) + 1})
                return 201, self.deployments[-1]
            return 200, self.deployments[::-1]
        number = int(path.split("/")[-2])
        if method == "POST":
            told = self.statuses.setdefault(number, [])
            told.append({**body, "id": len(told) + 1})
        return (201, told[-1]) if method == "POST" else (200, self.statuses.get(number, [])[::-1])

    def told(self, number: int = 1) -> list[str]:
        return [one["state"] for one in self.statuses.get(number, [])]


@pytest.fixture
def there() -> GitHub:
    return GitHub()


@pytest.fixture
def pipeline(there: GitHub, estate: Estate, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """Release 1.5.0 is of commit SHA, and commits of the API are told with a token."""
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "token").write_text(TOKEN)
    (data_dir / "secrets" / "key").write_bytes(RSA["one"].as_pem(private=True))
    monkeypatch.setattr(github_calls, "tokens", github_calls.Tokens())
    Release.objects.filter(version="1.5.0").update(commit=SHA)
    with Serving(there) as served:
        yield make_rule("https://issuer.example", position=1, status={"api": served.url, "token": "file:token"})


def ask(estate: Estate, person: Person, version: str = "1.5.0") -> Operation:
    release = Release.objects.select_related("service").get(version=version)
    environment = estate.production if version == "1.5.0" else estate.staging
    return request_deployment(Actor(person), environment=environment, release=release, reason="x")


def tell(times: int = 1) -> int:
    """The clock comes by, and everything is due."""
    CommitNotice.objects.update(next_at=timezone.now() - timedelta(seconds=1))
    return sum(github.tell_due() for _ in range(times))


@pytest.fixture
def operation(estate: Estate, pipeline: Pipeline, alice: Person) -> Operation:
    return ask(estate, alice)


def finish(operation: Operation, bob: Person) -> None:
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    engine.run(operation.pk, "w1")


def test_every_state_of_an_operation_has_a_word() -> None:
    assert STATES.keys() == set(State)


@pytest.mark.django_db(transaction=True)
def test_from_the_request_to_the_end(operation: Operation, there: GitHub, bob: Person) -> None:
    assert tell() == 1
    assert there.told() == ["queued"]
    made = there.deployments[0]
    assert (made["ref"], made["environment"], made["auto_merge"]) == (SHA, "production", False)
    assert made["payload"] == {"controlplane": "http://127.0.0.1:8000", "operation": operation.pk}
    assert tell() == 0  # nothing new
    finish(operation, bob)
    assert tell(3) == 1
    assert there.told() == ["queued", "success"]
    assert there.statuses[1][0]["log_url"] == f"http://127.0.0.1:8000/operations/{operation.pk}"
    notice = CommitNotice.objects.get()
    assert notice.done and [one["state"] for one in notice.history] == ["queued", "success"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("pipeline")
def test_what_failed_and_what_was_rejected(estate: Estate, there: GitHub, alice: Person, bob: Person) -> None:
    Release.objects.filter(version="1.6.0").update(commit="e" * 40)
    first = ask(estate, alice, "1.6.0")
    engine.run(first.pk, "w1")
    second = ask(estate, alice)
    transitions.reject(second.pk, Actor(bob), second.plan_digest, "no")
    tell()
    assert (there.told(1), there.told(2)) == (["failure"], ["error"])


def test_while_it_runs(operation: Operation, there: GitHub) -> None:
    Operation.objects.update(state="running")
    tell()
    Operation.objects.update(state="needs_operator")
    assert tell() == 0
    assert there.told() == ["in_progress"]


def test_lost_answers_make_nothing_twice(operation: Operation, there: GitHub) -> None:
    there.lose = 2
    assert tell() == 1
    assert "cannot be read" in error_of()
    assert tell() == 1  # finds the deployment; the answer to its status is lost
    assert tell() == 1  # finds the status
    assert len(there.deployments) == 1 and there.told() == ["queued"]
    assert (CommitNotice.objects.get().told, error_of()) == ("queued", "")


def error_of() -> str:
    return CommitNotice.objects.get().error


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502])
def test_what_may_pass_is_tried_again_later(operation: Operation, there: GitHub, status: int) -> None:
    there.refuse = [status]
    tell()
    notice = CommitNotice.objects.get()
    assert not notice.done and f"answered {status}" in notice.error and notice.next_at > timezone.now()
    assert github.tell_due() == 0  # not yet
    tell()
    assert there.told() == ["queued"] and error_of() == ""


def test_it_waits_as_long_as_it_is_told(operation: Operation, there: GitHub) -> None:
    there.refuse, there.headers = [429], {"Retry-After": "900"}
    tell()
    assert CommitNotice.objects.get().next_at > timezone.now() + timedelta(seconds=800)


def test_pauses_grow(operation: Operation, there: GitHub) -> None:
    waits = []
    for _ in range(4):
        there.refuse = [500]
        tell()
        waits.append((CommitNotice.objects.get().next_at - timezone.now()).total_seconds())
    assert all(2 ** (n + 1) - 1 < wait < 2 ** (n + 1) * 1.3 + 1 for n, wait in enumerate(waits)), waits


def test_a_commit_that_is_not_there_is_given_up(operation: Operation, there: GitHub) -> None:
    there.refuse = [422]
    tell()
    assert CommitNotice.objects.get().done and tell() == 0


@pytest.mark.django_db(transaction=True)
def test_after_a_day_it_is_given_up(operation: Operation, there: GitHub, bob: Person) -> None:
    finish(operation, bob)
    Operation.objects.update(finished_at=timezone.now() - timedelta(days=1, minutes=1))
    there.refuse = [500]
    tell()
    assert CommitNotice.objects.get().done


@pytest.mark.django_db(transaction=True)
def test_nothing_waits_for_it(operation: Operation, pipeline: Pipeline, bob: Person) -> None:
    Pipeline.objects.update(status={"api": "http://127.0.0.1:1", "token": "file:gone"})
    tell()
    finish(operation, bob)
    assert {one.digest for name, one in paper.runs.items() if name.startswith("production")} == {
        Release.objects.get(version="1.5.0").digest
    }
    tell()
    assert "file:gone" in error_of()


def test_what_another_clock_works_on_is_left_to_it(operation: Operation, there: GitHub) -> None:
    CommitNotice.objects.update(sender="other", lease_until=timezone.now() + timedelta(minutes=1))
    assert tell() == 0
    CommitNotice.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert tell() == 1 and there.told() == ["queued"]


def test_an_app_signs_with_its_key_and_keeps_its_token(operation: Operation, pipeline: Pipeline, there: GitHub) -> None:
    app = {"api": pipeline.status["api"], "app_id": "77", "installation_id": "5", "private_key": "file:key"}
    Pipeline.objects.update(status=app)
    tell()
    Operation.objects.update(state="running")
    tell()
    assert there.told() == ["queued", "in_progress"]
    assert len(there.app_tokens) == 1
    claims = jwt.decode(there.app_tokens[0], RSA["one"], algorithms=["RS256"]).claims
    assert claims["iss"] == "77" and claims["exp"] - claims["iat"] <= 600
    assert {bearer for _, path, bearer in there.calls if "access_tokens" not in path} == {f"Bearer {TOKEN}"}


def test_whom_nobody_tells(estate: Estate, pipeline: Pipeline, alice: Person) -> None:
    Release.objects.update(commit="main")  # no commit's whole name
    ask(estate, alice)
    Release.objects.update(commit=SHA)
    Pipeline.objects.update(status={})
    ask(estate, alice)
    Pipeline.objects.update(status={"api": "x", "token": "y"}, services=["web"])
    ask(estate, alice)
    assert not CommitNotice.objects.exists()


def test_the_pipeline_that_reported_it_tells(estate: Estate, pipeline: Pipeline, alice: Person) -> None:
    other = make_rule("https://issuer.example", "other", position=0, status=pipeline.status)
    ask(estate, alice)
    assert CommitNotice.objects.get().pipeline == other
    ReleaseReport.objects.create(release=estate.releases["1.5.0"], pipeline=pipeline, run_id="1", repository="r")
    assert CommitNotice.objects.get(operation=ask(estate, alice)).pipeline == pipeline


def test_no_secret_is_kept_or_shown(operation: Operation, there: GitHub, alice: Person) -> None:
    there.refuse = [401]
    tell()
    tell()
    client = Client()
    client.force_login(alice)
    page = client.get(operation.get_absolute_url()).content.decode()
    assert TOKEN not in str(CommitNotice.objects.values()) + page
    assert "•••" not in error_of()


def test_a_secret_that_is_quoted_is_masked_before_the_words_are_cut(operation: Operation, there: GitHub) -> None:
    there.refuse, there.padding = [500], "x" * 120
    tell()
    assert TOKEN[:8] not in error_of() and MASK in error_of()


@pytest.mark.parametrize(("more", "works"), [("\n", True), ("\nand a line", False), ("…", False)])
def test_a_token_that_cannot_be_sent_stays_secret(  # noqa: PLR0917 (fixtures)
    operation: Operation, there: GitHub, alice: Person, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, more: str, works: bool,
) -> None:  # fmt: skip
    """Secrets are often kept with the end of the line that they were typed in."""
    monkeypatch.setenv("GITHUB_TOKEN_OF_TESTS", TOKEN + more)
    pipeline = Pipeline.objects.get()
    Pipeline.objects.update(status={**pipeline.status, "token": "env:GITHUB_TOKEN_OF_TESTS"})
    tell()
    assert there.told() == (["queued"] if works else [])
    assert works or "env:GITHUB_TOKEN_OF_TESTS is no token: it is not in visible ASCII" in error_of()
    client = Client()
    client.force_login(alice)
    urls = [operation.get_absolute_url(), operation.deployment.release.get_absolute_url(), "/pipelines"]
    pages = "".join(client.get(url).content.decode() for url in urls)
    assert TOKEN not in str(CommitNotice.objects.values()) + pages + caplog.text


def test_pages_say_whether_it_was_told(operation: Operation, there: GitHub, alice: Person) -> None:
    client = Client()
    client.force_login(alice)
    assert "not told yet" in client.get(operation.get_absolute_url()).content.decode()
    there.refuse = [500]
    tell()
    assert "GitHub answered 500" in client.get(operation.get_absolute_url()).content.decode()
    tell()
    assert "told it is queued" in client.get(operation.get_absolute_url()).content.decode()
    release = client.get(operation.deployment.release.get_absolute_url()).content.decode()
    assert "told it is queued" in release


@pytest.mark.django_db(transaction=True)
def test_several_clocks_tell_each_once(estate: Estate, pipeline: Pipeline, there: GitHub, alice: Person) -> None:
    for _ in range(6):
        ask(estate, alice)

    def come_by(_: int) -> int:
        try:
            return github.tell_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as clocks:
        tried = sum(clocks.map(come_by, range(8)))
    assert tried == 6
    assert len(there.deployments) == 6 and {len(told) for told in there.statuses.values()} == {1}
