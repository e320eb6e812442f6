"""bin/deploy, as a pipeline runs it: a process of its own against the real web process, engine and instances."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

import pytest
from django.conf import settings
from django.db import connection

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.embedded.processes import free_port, wait_until
from controlplane.operations import engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Release, ReleaseCommits
from environments.models import Environment, Placement, Service
from tests.api.conftest import token
from tests.deployments.pipelines.conftest import make_rule
from tests.deployments.pipelines.issuer import AUDIENCE, SHA, Issuer, Serving, serve
from tests.environments.fleet import QUICK, Fleet

ROOT = Path(__file__).parents[3]
DIGEST = "sha256:" + "2" * 64
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[str]:
    """The web process; gives its address."""
    port, log = free_port(), Path(settings.DATA_DIR) / "web-of-pipelines.log"
    url = urlsplit(os.environ["DATABASE_URL"])
    database = urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}"))
    env = {**os.environ, "DATABASE_URL": database, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-P", "-m", "uvicorn", "controlplane.asgi:application", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        assert wait_until(lambda: answers(port), 60), log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture
def staging(web: str, alice: Person) -> Iterator[Environment]:
    """One real instance, of nothing yet; 1.5.0 may go there, and 1.6.0 will not become healthy."""
    service = Service.objects.create(slug="api", name="The API")
    environment = Environment.objects.create(slug="staging", name="Staging", driver="local", driver_settings=QUICK)
    instances = [{"name": "staging-1", "address": f"http://127.0.0.1:{free_port()}"}]
    placement = Placement.objects.create(environment=environment, service=service, instances=instances)
    for version in ("1.5.0", "1.6.0"):
        Release.objects.create(
            service=service, version=version, image="registry/api", ci="passed", created_by_name="x",
            digest="sha256:" + version.replace(".", "") * 21 + "a",
        )  # fmt: skip
    yield environment
    Fleet(placement).kill()


Answer = tuple[int, dict[str, str], bytes]
Say = Callable[..., Any]  # a process


@pytest.fixture
def deploy(web: str, staging: Environment, alice: Person) -> Iterator[Say]:
    """Starts the command: alice's token, version 1.5.0 to staging and --wait, where nothing else is said."""
    started: list[subprocess.Popen[str]] = []
    plain = token(alice, Role.OPERATOR)

    def start(
        *more: str, url: str = web, version: str = "1.5.0", env: dict[str, str] | None = None, cwd: Path = Path("/")
    ) -> Any:
        about = ["--url", url, "--service", "api", "--version", version, "--every", "0.1"]
        wanted = list(more) or ["--environment", "staging", "--reason", "build 7", "--wait"]
        who = {"CONTROLPLANE_TOKEN": plain} if env is None else env
        process = subprocess.Popen(
            [sys.executable, "-I", str(ROOT / "bin" / "deploy"), *about, *wanted], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"], **who}, cwd=cwd,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def asked_for() -> int:
    """The number of the operation, once there is one."""
    assert wait_until(Operation.objects.exists, 30)
    return Operation.objects.get().pk


def end_of(process: Any) -> tuple[int, str]:
    said, _ = process.communicate(timeout=50)
    return process.returncode, said


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


HOLE = {"VulnerabilityID": "CVE-2026-1", "Severity": "HIGH"}
KEY = {"RuleID": "aws-access-key-id", "Severity": "CRITICAL"}
TRIVY = {
    "what is empty is left out": ({"SchemaVersion": 2}, {"critical": 0, "high": 0}),
    "a key in the image": ({"SchemaVersion": 2, "Results": [{"Vulnerabilities": [HOLE]}, {"Secrets": [KEY]}]},
                           {"critical": 1, "high": 1}),
    "something else": ({"runs": []}, None),
}  # fmt: skip


@pytest.mark.parametrize(("report", "found"), TRIVY.values(), ids=TRIVY)
def test_what_trivy_found_is_counted(deploy: Say, tmp_path: Path, report: Any, found: dict[str, int] | None) -> None:
    bodies: list[Any] = []

    def give(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        bodies.append(json.loads(body))
        return 201, {}, json.dumps({"service": "api", "version": "2.0.0", "digest": DIGEST}).encode()

    (tmp_path / "scan.json").write_text(json.dumps(report))
    with Serving(give) as plane:
        image = ("--image", "registry/api", "--digest", DIGEST, "--trivy", str(tmp_path / "scan.json"))
        status, said = end_of(deploy(*image, url=plane.url))
    if found is None:
        assert status == 2 and "is no report of trivy" in said and not bodies
    else:
        assert status == 0, said
        assert bodies[0]["scan"]["findings"] == {**found, "medium": 0, "low": 0}


# --- the commits of the release -------------------------------------------------------------------------


class Checkout:
    """A repository of git with a branch that was merged, as a pipeline has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        who = {
            f"GIT_{role}_{what}": f"{what.lower()}@x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1", **who}
        env |= {"GIT_AUTHOR_NAME": "Zoë Grün", "GIT_COMMITTER_DATE": "2026-11-05T10:00:00+02:00"}
        done = subprocess.run(["git", *arguments], cwd=self.folder, env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, *words: str) -> str:
        """An empty one; returns its name."""
        self.git("commit", "--quiet", "--allow-empty", *(part for one in words for part in ("-m", one)))
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "checkout")
    made.commit("First")
    made.git("switch", "--quiet", "-c", "side")
    made.commit("On a branch")
    made.git("switch", "--quiet", "main")
    made.git("merge", "--quiet", "--no-ff", "-m", "Merge the branch", "side")
    made.commit("Fix\x1b[31m the \u202e\tcheckout " + "ü" * 300, "It was broken.")
    return made


REPORT = ("--image", "registry/api", "--digest", DIGEST)


def test_the_commits_go_with_the_release(deploy: Say, checkout: Checkout) -> None:
    """Along first parents, by name and not by address, and nothing in a title that cannot be seen."""
    newest = checkout.git("rev-parse", "HEAD")
    status, said = end_of(deploy(*REPORT, "--commit", newest, version="2.0.0", cwd=checkout.folder))
    assert status == 0, said
    kept = ReleaseCommits.objects.get(release__version="2.0.0").commits
    assert [one["title"] for one in kept[1:]] == ["Merge the branch", "First"]
    assert kept[0] == {
        "sha": newest, "author": "Zoë Grün", "at": "2026-11-05T08:00:00Z",
        "title": ("Fix [31m the checkout " + "ü" * 300)[:200],
    }  # fmt: skip


@pytest.mark.parametrize(("count", "wanted"), [("2", 2), ("0", 0)])
def test_fewer_commits_or_none_may_be_asked_for(deploy: Say, checkout: Checkout, count: str, wanted: int) -> None:
    newest = checkout.git("rev-parse", "HEAD")
    more = (*REPORT, "--commit", newest, "--commits", count)
    status, said = end_of(deploy(*more, version="2.0.0", cwd=checkout.folder))
    assert status == 0, said
    row = ReleaseCommits.objects.filter(release__version="2.0.0").first()
    assert len(row.commits if row else []) == wanted


@pytest.mark.parametrize(("commit", "is_said"), [("a" * 40, True), ("--output=stolen", False), ("abc1234", False)])
def test_a_release_is_reported_where_its_commits_cannot_be_had(
    deploy: Say, checkout: Checkout, commit: str, is_said: bool
) -> None:
    status, said = end_of(deploy(*REPORT, f"--commit={commit}", version="2.0.0", cwd=checkout.folder))
    assert ("no commits are reported: fatal: bad object" in said) == is_said
    assert not ReleaseCommits.objects.exists()
    assert not (checkout.folder / "stolen").exists()
    assert (status == 0) == (commit != "--output=stolen"), said


def test_outside_of_a_checkout_and_with_a_senseless_number(deploy: Say, tmp_path: Path) -> None:
    status, said = end_of(deploy(*REPORT, "--commit", "a" * 40, version="2.0.0", cwd=tmp_path))
    assert status == 0 and "no commits are reported: fatal: not a git repository" in said
    for number in ("-1", "201"):
        status, said = end_of(deploy(*REPORT, "--commits", number, version="2.0.1"))
        assert status == 2 and "--commits is 0 to 200" in said
