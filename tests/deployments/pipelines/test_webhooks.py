"""Each delivery of a webhook is signed, has one effect, and gets one answer; older words never undo newer ones."""

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from controlplane.audit.models import Entry
from deployments.models import Pipeline, Release, ReleaseReport, WebhookDelivery, WorkflowRun
from deployments.pipelines import webhooks
from environments.secrets import RememberedSecrets
from tests.api.conftest import assert_problem
from tests.deployments.pipelines.conftest import make_rule
from tests.estate import Estate

SECRET = "it-is-between-github-and-us"
SHA = "c" * 40
NOW = datetime.now(UTC)


@pytest.fixture
def hooked(estate: Estate, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline with a webhook secret; release 2.0.0 of commit SHA, whose checks nobody knows."""
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "hook").write_text(SECRET + "\n")
    monkeypatch.setattr(webhooks, "_secrets", RememberedSecrets())
    Release.objects.create(
        service=estate.service, version="2.0.0", image="i", digest="sha256:" + "2" * 64, commit=SHA, created_by_name="x"
    )
    return make_rule("https://issuer.example", webhook_secret="file:hook")


def body_of(**changes: Any) -> dict[str, Any]:
    """A workflow run of the commit that ended well just now."""
    run = {
        "id": 7, "name": "CI", "head_sha": SHA, "run_attempt": 1, "status": "completed", "conclusion": "success",
        "updated_at": NOW.isoformat(), "head_repository": {"full_name": "pitchey/api"},
    }  # fmt: skip
    return {"action": "completed", "workflow_run": run | changes, "repository": {"full_name": "pitchey/api"}}


def send(
    told: Any, number: str = "one", event: str = "workflow_run", *, secret: str = SECRET, slug: str = "backend",
    content_type: str = "application/json", **headers: str,
) -> Any:  # fmt: skip
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": number, "X-GitHub-Event": event} | headers
    path = f"/api/v1/webhooks/github/{slug}"
    return Client(raise_request_exception=False).generic("POST", path, body, content_type, headers=given)


def ci() -> str:
    return Release.objects.get(version="2.0.0").ci


class TestWho:
    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Hub-Signature-256": ""},
            {"X-Hub-Signature-256": "sha256="},
            {"X-Hub-Signature-256": "sha256=" + "0" * 64},
            {"X-Hub-Signature-256": "é"},
            {"X-Hub-Signature-256": "sha1=" + "0" * 40},
        ],
    )
    def test_a_wrong_signature(self, hooked: Pipeline, headers: dict[str, str]) -> None:
        assert_problem(send(body_of(), **headers), 401)
        assert not WebhookDelivery.objects.exists() and ci() == ""

    def test_nobody_can_tell_which_pipelines_there_are(self, hooked: Pipeline) -> None:
        wrong = send(body_of(), secret="another-secret-of-others")
        unknown = send(body_of(), slug="nothing")
        paused = Pipeline.objects.update(paused=True) and send(body_of())
        Pipeline.objects.update(paused=False, webhook_secret="")
        answers = [wrong, unknown, paused, send(body_of())]
        assert {answer.status_code for answer in answers} == {401}
        assert len({answer.content for answer in answers}) == 1

    def test_no_token_stands_for_a_signature(self, hooked: Pipeline) -> None:
        answer = Client().post("/api/v1/webhooks/github/backend", {}, headers={"Authorization": "Bearer cp_x"})
        assert_problem(answer, 401)

    def test_another_body_under_a_signature(self, hooked: Pipeline) -> None:
        signature = hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest()
        assert_problem(send(body_of(), **{"X-Hub-Signature-256": f"sha256={signature}"}), 401)

    @pytest.mark.parametrize("slug", ["%00", "backend%00", "x" * 61, "b%C3%A4ckend", "a%20b"])
    def test_a_name_that_no_pipeline_can_have_is_one_that_none_has(self, hooked: Pipeline, slug: str) -> None:
        answer = send(body_of(), slug=slug)
        assert_problem(answer, 401)
        assert answer.content == send(body_of(), slug="nothing").content

    def test_a_secret_that_cannot_be_read_is_503_and_says_nothing_of_it(self, hooked: Pipeline) -> None:
        Pipeline.objects.update(webhook_secret="file:gone")
        answer = send(body_of())
        assert_problem(answer, 503, "cannot be read")
        assert b"gone" not in answer.content
        assert_problem(send(body_of(), **{"X-Hub-Signature-256": ""}), 401)


class TestForm:
    def test_too_big(self, hooked: Pipeline, settings: Any) -> None:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
        assert_problem(send(b"x" * 1001), 413)

    @pytest.mark.parametrize("body", [b" ", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
    def test_no_json_object(self, hooked: Pipeline, body: bytes) -> None:
        assert_problem(send(body), 422, "JSON")

    def test_a_form(self, hooked: Pipeline) -> None:
        assert_problem(send(body_of(), content_type="application/x-www-form-urlencoded"), 415)

    @pytest.mark.parametrize(("number", "event"), [("", "push"), ("x" * 101, "push"), ("1", ""), ("1", "x" * 61)])
    def test_its_headers(self, hooked: Pipeline, number: str, event: str) -> None:
        assert_problem(send(body_of(), number, event), 422, "X-GitHub")

    @pytest.mark.parametrize(
        "changes",
        [{"head_sha": None}, {"id": {}}, {"run_attempt": "1"}, {"run_attempt": 0}, {"updated_at": "soon"},
         {"name": "a\0b"}, {"updated_at": None}, {"head_sha": "c" * 81}, {"id": "7" * 41},
         {"conclusion": []}, {"conclusion": "x" * 41}],
    )  # fmt: skip
    def test_what_github_would_not_say(self, hooked: Pipeline, changes: dict[str, Any]) -> None:
        assert_problem(send(body_of(**changes)), 422)
        assert not WorkflowRun.objects.exists() and not WebhookDelivery.objects.exists()

    def test_another_repository(self, hooked: Pipeline) -> None:
        assert_problem(send(body_of() | {"repository": {"full_name": "mallory/api"}}), 422, "another repository")

    @pytest.mark.parametrize("days", [-8, 1])
    def test_too_long_ago_or_to_come(self, hooked: Pipeline, days: int) -> None:
        at = (NOW + timedelta(days=days)).isoformat()
        assert_problem(send(body_of(updated_at=at)), 422, "too long ago, or to come")


class TestOnce:
    def test_the_same_again_answers_the_same_and_does_nothing(self, hooked: Pipeline) -> None:
        first = send(body_of())
        assert first.status_code == 200 and ci() == "passed"
        Release.objects.update(ci="pending")
        again = send(body_of())
        assert again.content == first.content and again.status_code == 200
        assert ci() == "pending" and WebhookDelivery.objects.count() == 1

    def test_a_copy_under_another_number(self, hooked: Pipeline) -> None:
        first = send(body_of())
        Release.objects.update(ci="pending")
        assert send(body_of(), "two").content == first.content
        assert ci() == "pending" and WebhookDelivery.objects.count() == 1

    def test_a_number_with_something_else_in_it(self, hooked: Pipeline) -> None:
        send(body_of())
        assert_problem(send(body_of(conclusion="failure")), 409)
        assert_problem(send(body_of(), event="push"), 409)
        assert ci() == "passed"

    def test_nothing_is_kept_of_one_that_failed(self, hooked: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: object) -> None:
            raise RuntimeError("broken")

        with monkeypatch.context() as patch:
            patch.setattr(webhooks, "settle", broken)
            assert send(body_of()).status_code == 500
        assert not WebhookDelivery.objects.exists() and not WorkflowRun.objects.exists()
        assert send(body_of()).status_code == 200 and ci() == "passed"

    def test_the_body_is_not_kept(self, hooked: Pipeline) -> None:
        send(body_of() | {"sender": {"email": "octocat@example.com"}})
        assert "octocat@example" not in str(WebhookDelivery.objects.values())

    def test_old_ones_are_forgotten_after_nothing_can_repeat_them(self, hooked: Pipeline) -> None:
        send(body_of())
        assert webhooks.forget_old() == 0 and webhooks.OLDEST + timedelta(days=3) < webhooks.REMEMBERED
        WebhookDelivery.objects.update(at=NOW - webhooks.REMEMBERED - timedelta(hours=1))
        assert webhooks.forget_old() == 1


@pytest.mark.django_db(transaction=True)
def test_many_at_once_have_one_effect(hooked: Pipeline) -> None:
    def one(_: int) -> bytes:
        try:
            return bytes(send(body_of()).content)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        answers = set(threads.map(one, range(8)))
    assert len(answers) == 1
    assert WebhookDelivery.objects.count() == 1
    assert Entry.objects.filter(action="release.checked").count() == 1


class TestChecks:
    @pytest.mark.parametrize(
        ("conclusion", "wanted"),
        [("success", "passed"), ("neutral", "passed"), ("failure", "failed"), ("timed_out", "failed"),
         ("cancelled", "failed"), ("startup_failure", "failed"), ("", "pending"), ("skipped", "")],
    )  # fmt: skip
    def test_what_a_conclusion_means(self, hooked: Pipeline, conclusion: str, wanted: str) -> None:
        send(body_of(conclusion=conclusion or None))
        assert ci() == wanted

    def test_the_trail_says_who_said_it(self, hooked: Pipeline) -> None:
        answer = send(body_of()).json()
        assert answer == {"event": "workflow_run", "said": "CI run 7 of cccccccccc: success", "releases": ["api 2.0.0"]}
        entry = Entry.objects.get(action="release.checked")
        assert (entry.actor, entry.via) == ("pitchey/api webhook", "pipeline backend webhook")

    def test_an_older_word_comes_late(self, hooked: Pipeline) -> None:
        send(body_of())
        late = (NOW - timedelta(seconds=5)).isoformat()
        answer = send(body_of(conclusion=None, updated_at=late), "two")
        assert "newer" in answer.json()["said"] and ci() == "passed"

    def test_within_one_second_the_end_counts(self, hooked: Pipeline) -> None:
        send(body_of())
        send(body_of(conclusion=None), "two")
        assert ci() == "passed"

    def test_another_attempt(self, hooked: Pipeline) -> None:
        send(body_of(conclusion="failure"))
        assert ci() == "failed"
        send(body_of(conclusion=None, run_attempt=2), "two")
        send(body_of(run_attempt=2), "three")
        assert ci() == "passed"

    def test_all_runs_of_the_commit_count(self, hooked: Pipeline) -> None:
        send(body_of())
        Release.objects.update(ci="pending")
        send(body_of(id=8, name="Scan", conclusion="failure"), "two")
        assert ci() == "failed"

    def test_only_the_workflows_that_the_rule_names(self, hooked: Pipeline) -> None:
        Pipeline.objects.update(workflows=["CI"])
        send(body_of(id=8, name="Nightly", conclusion="failure"), "two")
        assert ci() == ""
        send(body_of())
        assert ci() == "passed"

    @pytest.mark.parametrize("copy", [{"full_name": "mallory/api"}, {}, None])
    @pytest.mark.parametrize("conclusion", ["success", "failure"])
    def test_a_copy_of_the_repository_counts_for_nothing(
        self, hooked: Pipeline, copy: dict[str, str] | None, conclusion: str
    ) -> None:
        """Also one that was deleted meanwhile: then GitHub does not name it any more."""
        send(body_of(head_repository=copy, conclusion=conclusion))
        assert ci() == "" and not WorkflowRun.objects.exists()

    def test_a_pass_that_a_person_reported_stands(self, hooked: Pipeline) -> None:
        Release.objects.update(ci="passed")
        send(body_of(conclusion="failure"))
        assert ci() == "passed"

    def test_the_run_that_reported_speaks_for_itself(self, hooked: Pipeline) -> None:
        """It goes on after its report, and may wait for the very deployment."""
        release = Release.objects.get(version="2.0.0")
        Release.objects.update(ci="passed")
        ReleaseReport.objects.create(release=release, pipeline=hooked, run_id="7", repository="r", ci="passed")
        send(body_of(conclusion=None))
        send(body_of(conclusion="failure", updated_at=(NOW + timedelta(seconds=5)).isoformat()), "two")
        assert ci() == "passed"
        send(body_of(id=8, name="Scan", conclusion=None), "three")
        assert ci() == "pending"
        send(body_of(id=8, name="Scan", updated_at=(NOW + timedelta(seconds=9)).isoformat()), "four")
        assert ci() == "passed"


def push(at: datetime, committed: datetime = NOW) -> dict[str, Any]:
    """As GitHub tells of one: when it was pushed in seconds, and of the commit whatever its author's clock said."""
    return {
        "ref": "refs/heads/main", "after": SHA, "pusher": {"name": "octocat"},
        "head_commit": {"timestamp": committed.isoformat()},
        "repository": {"full_name": "pitchey/api", "pushed_at": int(at.timestamp())},
    }  # fmt: skip


class TestOthers:
    def test_a_ping_a_push_and_what_is_not_known(self, hooked: Pipeline) -> None:
        about: dict[str, Any] = {"repository": {"full_name": "pitchey/api"}}
        assert "hears you" in send(about, "1", "ping").json()["said"]
        assert send(push(NOW), "2", "push").json()["said"] == "refs/heads/main is at cccccccccc now"
        assert "nothing is made" in send(about, "3", "star").json()["said"]

    def test_a_push_is_as_old_as_itself_and_not_as_its_commits(self, hooked: Pipeline) -> None:
        old = push(NOW, committed=NOW - timedelta(days=400))
        assert send(old, "1", "push").status_code == 200
        assert_problem(send(push(NOW - timedelta(days=8)), "2", "push"), 422, "too long ago, or to come")

    def test_a_package(self, hooked: Pipeline) -> None:
        tag = {"tag": {"name": "2.0.0", "digest": "sha256:" + "2" * 64}}
        told = {
            "repository": {"full_name": "pitchey/api"},
            "registry_package": {
                "name": "api", "updated_at": NOW.isoformat(),
                "package_version": {"version": "x", "container_metadata": tag},
            },
        }  # fmt: skip
        answer = send(told, "1", "registry_package").json()
        assert answer["releases"] == ["api 2.0.0"] and "of a release that is known" in answer["said"]
