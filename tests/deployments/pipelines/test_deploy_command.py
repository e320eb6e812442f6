"""bin/deploy, as a pipeline runs it: a process of its own against the real web process, engine and instances."""

import threading
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.embedded.processes import free_port
from controlplane.operations import engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Release
from environments.models import Environment
from tests.deployments.pipelines.conftest import make_rule
from tests.deployments.pipelines.deploying import Answer, Say, asked_for, deploy, end_of, staging, web
from tests.deployments.pipelines.issuer import AUDIENCE, SHA, Issuer, Serving, serve

__all__ = ["deploy", "staging", "web"]  # fixtures
pytestmark = pytest.mark.django_db(transaction=True)
DIGEST = "sha256:" + "2" * 64


def test_it_reports_asks_and_follows_to_the_end(deploy: Say, alice: Person, bob: Person, staging: Environment) -> None:
    Environment.objects.update(approvals_required=1)
    process = deploy(
        "--image", "registry/api", "--digest", DIGEST, "--ci", "passed", "--environment", "staging", "--reason",
        "build 7", "--wait", version="2.0.0",
    )  # fmt: skip
    number = asked_for()
    said = [process.stdout.readline() for _ in range(4)]
    assert said[0] == f"api 2.0.0 is known, with {DIGEST}.\n"
    assert f"Operation {number} was asked for: http://127.0.0.1" in said[1]
    assert "waits for an approval" in "".join(said)
    transitions.approve(number, Actor(bob), Operation.objects.get().plan_digest)
    engine.run(number, "w1")
    status, rest = end_of(process)
    assert status == 0, [*said, rest]
    assert "approved by Bob" in rest and "staging-1" in rest and "Deploy api 2.0.0 to staging: succeeded." in rest
    assert "cp_" not in "".join(said) + rest
    assert Operation.objects.get().state == State.SUCCEEDED


def test_a_deployment_that_fails_ends_with_1(deploy: Say) -> None:
    process = deploy(version="1.6.0")
    engine.run(asked_for(), "w1")
    status, said = end_of(process)
    assert status == 1, said
    assert "failed" in said and "503" in said


REFUSED: list[tuple[tuple[str, ...], str, str]] = [
    ((), "9.9.9", "Refused (422). There is no release 9.9.9"),
    (("--environment", "nowhere", "--reason", "x"), "1.5.0", "Refused (404)"),
    (("--environment", "staging"), "1.5.0", "--environment and --reason go together"),
    (("--image", "i"), "1.5.0", "--image and --digest go together"),
    (("--image", "i", "--digest", "sha256:x"), "1.5.0", "Refused (422)"),
    (("--image", "i", "--digest", DIGEST, "--evidence", "/nothing"), "1.5.0", "--evidence cannot be used"),
    (("--url", "http://control.example", "--environment", "a", "--reason", "b"), "1", "begin with https://"),
]


def test_what_is_refused_or_not_valid_ends_with_2(deploy: Say) -> None:
    """All at once, as each is a process of its own and none leaves anything behind."""
    started = [(deploy(*more, version=version), words) for more, version, words in REFUSED]
    for process, words in started:
        status, said = end_of(process)
        assert status == 2, said
        assert words in said and "Traceback" not in said
    assert not Operation.objects.exists()


def test_a_wrong_token_and_none_end_with_2(deploy: Say) -> None:
    status, said = end_of(deploy(env={"CONTROLPLANE_TOKEN": "cp_wrong-one"}))
    assert status == 2 and "Refused (401)" in said and "cp_wrong" not in said
    status, said = end_of(deploy(env={}))
    assert status == 2 and "id-token: write" in said


def test_a_rejection_ends_with_3(deploy: Say, bob: Person) -> None:
    Environment.objects.update(approvals_required=1)
    process = deploy()
    number = asked_for()
    transitions.reject(number, Actor(bob), Operation.objects.get().plan_digest, "not on a Friday")
    status, said = end_of(process)
    assert status == 3 and "not on a Friday" in said


def test_the_time_is_up_with_4_and_the_operation_goes_on(deploy: Say) -> None:
    Environment.objects.update(approvals_required=1)
    status, said = end_of(deploy("--environment", "staging", "--reason", "x", "--wait", "--timeout", "0.5"))
    assert status == 4 and "goes on without us" in said
    assert Operation.objects.get().state == State.AWAITING_APPROVAL


def test_nobody_there_is_5(deploy: Say) -> None:
    more = ("--environment", "staging", "--reason", "x", "--patience", "0.3")
    status, said = end_of(deploy(*more, url=f"http://127.0.0.1:{free_port()}"))
    assert status == 5 and "cannot be reached" in said


def test_it_survives_lost_connections(deploy: Say, web: str) -> None:
    """The answer to the request is lost after it had its effect, and so are some looks: still one operation."""
    troubled = Troubled(web)
    with Serving(troubled) as proxy:
        process = deploy(url=proxy.url)
        engine.run(asked_for(), "w1")
        status, said = end_of(process)
    assert status == 0, said
    assert "no answer" in said and troubled.lost >= 3
    assert Operation.objects.count() == 1


class Troubled:
    """Passes requests on, and loses the first answer of each kind."""

    def __init__(self, web: str) -> None:
        self.web, self.lost = web, 0
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        kept = {name: headers[name] for name in ("Authorization", "Content-Type", "Idempotency-Key") if name in headers}
        with urlopen(Request(self.web + path, body or None, kept, method=method)) as answer:
            status, content = answer.status, answer.read()
        with self._lock:
            kind = method + path.partition("?")[0]
            if kind not in self._seen:
                self._seen.add(kind)
                self.lost += 1
                return 200, {"Content-Length": str(len(content) + 9)}, content[:5]
        return status, {}, content


def test_a_run_in_github_actions_needs_no_secret(deploy: Say, staging: Environment) -> None:
    issuer = Issuer("")

    def give(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        named = f"audience={quote(AUDIENCE, safe='')}" in path
        right = named and headers["Authorization"] == "Bearer of-the-job"
        return (200, {}, f'{{"value": "{issuer.token()}"}}'.encode()) if right else (403, {}, b"{}")

    with serve(issuer) as served, Serving(give) as actions:
        issuer.url = served.url
        make_rule(served.url, environments=["staging"])
        env = {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{actions.url}/token?x=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
        }
        process = deploy(
            "--audience", AUDIENCE, "--image", "registry/api", "--digest", DIGEST, "--environment", "staging",
            "--reason", "build 7", "--wait", version="2.0.0", env=env,
        )  # fmt: skip
        engine.run(asked_for(), "w1")
        status, said = end_of(process)
    assert status == 0, said
    assert "of-the-job" not in said and "eyJ" not in said
    assert Release.objects.get(version="2.0.0").commit == SHA
    assert Operation.objects.get().requested_by_name == "pitchey/api run 1001 (octocat)"


def test_a_run_that_may_not_ask_any_more_ends_with_2(deploy: Say) -> None:
    """Its pipeline was paused while it waited: one new token, and that is the end."""
    looked: list[str] = []

    def give(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if "token" in path:
            return 200, {}, b'{"value": "of-the-run"}'
        if method == "POST":
            return 201, {}, b'{"operation": 7}'
        looked.append(path)
        return 401, {}, b'{"detail": "The pipeline is paused."}'

    with Serving(give) as both:
        env = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{both.url}/token", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job"}
        status, said = end_of(deploy(url=both.url, env=env))
    assert status == 2 and "Refused (401). The pipeline is paused." in said
    assert len(looked) == 2


def test_a_token_of_a_file_may_have_a_line_end_and_another_is_not_repeated(deploy: Say) -> None:
    status, said = end_of(deploy(env={"CONTROLPLANE_TOKEN": "cp_wrong-one\n"}))
    assert status == 2 and "Refused (401)" in said
    status, said = end_of(deploy(env={"CONTROLPLANE_TOKEN": "cp_wrong one"}))
    assert status == 2 and "CONTROLPLANE_TOKEN is no token" in said and "cp_wrong" not in said


def test_why_it_cannot_be_asked_just_now_is_said(deploy: Say) -> None:
    words = b'{"detail": "The environment cannot be asked what runs there: AWS slows us down."}'
    with Serving(lambda *request: (503, {}, words)) as away:
        more = ("--environment", "staging", "--reason", "x", "--patience", "0.3")
        status, said = end_of(deploy(*more, url=away.url))
    assert status == 5 and "AWS slows us down" in said


def test_what_can_never_be_asked_ends_with_2(deploy: Say) -> None:
    Environment.objects.update(driver_settings={"no_such": 1}, driver="hosts")
    status, said = end_of(deploy())
    assert status == 2 and "Refused (409)" in said, said
