"""A workflow run is believed by its issuer's signature and by a rule that fits; nothing else, and nothing longer."""

import base64
import hmac
import time
from typing import Any

import pytest
from django.db.models.functions import Now
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import RSAKey

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person
from controlplane.audit.models import Entry
from controlplane.operations import engine
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Pipeline, Release, ReleaseReport, UsedToken, WorkflowRun
from deployments.pipelines import identity
from deployments.services import create_release
from tests.api.conftest import assert_problem
from tests.deployments.pipelines.conftest import Run, make_rule
from tests.deployments.pipelines.issuer import AUDIENCE, EC, RSA, SHA, Issuer, unsigned
from tests.estate import Estate


def test_a_run_reports_its_release(run: Run, rule: Pipeline) -> None:
    answer = run.report(ci="passed")
    assert answer.status_code == 201, answer.content
    assert (answer.json()["commit"], answer.json()["ci"]) == (SHA, "passed")
    report = ReleaseReport.objects.get(release__version="2.0.0")
    assert (report.pipeline, report.run_id, report.run_actor, report.sha) == (rule, "1001", "octocat", SHA)
    assert (report.repository, report.ref, report.ci) == ("pitchey/api", "refs/heads/main", "passed")


def test_a_report_that_says_nothing_of_the_checks_leaves_them_pending(run: Run) -> None:
    """Evidence comes when it is there, also while the checks still run; what others say has been heard already."""
    run.report(ci="pending")
    WorkflowRun.objects.create(
        pipeline=Pipeline.objects.get(), run_id="7", workflow="Lint", sha=SHA, said_at=Now(), ci="passed"
    )
    assert run.report(migrations="none").json()["ci"] == "pending"
    assert ReleaseReport.objects.get().ci == "pending"
    assert run.report(ci="passed").json()["ci"] == "passed"


@pytest.mark.parametrize(("person", "own"), [("passed", "failed"), ("failed", "passed")])
def test_of_a_release_that_a_person_made_known_first_the_run_has_the_word(
    run: Run, alice: Person, person: str, own: str
) -> None:
    create_release(
        Actor(alice), service="api", version="2.0.0", image="registry/api", digest="sha256:" + "2" * 64,
        commit=SHA, ci=person,
    )  # fmt: skip
    assert run.report(ci=own).status_code == 201
    assert Release.objects.get(version="2.0.0").ci == own
    run.report(ci="")
    assert Release.objects.get(version="2.0.0").ci == own, "who says nothing changes nothing"


def test_the_trail_names_repository_run_and_actor(run: Run) -> None:
    run.report()
    run.deploy()
    for action in ("release.added", "operation.requested"):
        entry = Entry.objects.get(action=action)
        assert (entry.actor, entry.via) == ("pitchey/api run 1001 (octocat)", "pipeline backend")
    assert Release.objects.get(version="2.0.0").created_by_name == "pitchey/api run 1001 (octocat)"


def test_a_name_that_is_too_long_keeps_the_run_and_who_set_it_off(issuer: Issuer, run: Run, rule: Pipeline) -> None:
    """Another issuer's names may be longer than GitHub's."""
    claims = {"repository": "r" * 200, "run_id": "7" * 40, "actor": "a" * 100}
    Pipeline.objects.update(repository=claims["repository"])
    answer = run.report(ci="passed", claims=claims)
    assert answer.status_code == 201, answer.content
    name = Release.objects.get(version="2.0.0").created_by_name
    assert (len(name), name[51:]) == (200, f"r run {claims['run_id']} ({claims['actor']})")
    assert run.deploy(**claims).status_code == 201
    assert Operation.objects.get().requested_by_name == name


def test_a_run_asks_for_a_deployment_and_follows_it(run: Run, estate: Estate) -> None:
    asked = run.deploy().json()
    assert asked["state"] == "awaiting_approval"
    shown = run.get(f"operations/{asked['operation']}")
    assert shown.json()["requested_by"] == "pitchey/api run 1001 (octocat)"
    assert run.get(f"operations/{asked['operation']}/events").json()[0]["seq"] == 1


def test_a_curve_signs_as_well(run: Run, issuer: Issuer) -> None:
    assert run.report(token=issuer.token(EC)).status_code == 201


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"iss": "https://elsewhere.example"}, "issuer and the audience"),
        ({"aud": "https://another.example"}, "issuer and the audience"),
        ({"aud": None}, "issuer and the audience"),
        ({"repository": "mallory/api"}, "another repository"),
        ({"repository": "pitchey/api-fork"}, "another repository"),
        ({"ref": "refs/heads/feature"}, "no runs of refs/heads/feature"),
        ({"ref": "refs/heads/main2"}, "no runs of refs/heads/main2"),
        ({"ref": "refs/pull/1/merge"}, "no runs of refs/pull/1/merge"),
        ({"ref": None}, "no runs of no reference"),
        ({"event_name": "pull_request_target"}, "set off by pull_request_target"),
        ({"event_name": None}, "set off by nothing named"),
        ({"exp": 1}, "expired"),
        ({"iat": int(time.time()) + 3600, "nbf": None}, "not valid yet"),
        ({"nbf": int(time.time()) + 3600}, "not valid yet"),
        ({"exp": int(time.time()) + 90_000}, "more than a day"),
        ({"exp": None}, "exp"),
        ({"iat": None}, "iat"),
        ({"exp": True}, "exp"),
        ({"nbf": "soon"}, "nbf"),
        ({"jti": None}, "jti"),
        ({"jti": ["a"]}, "jti"),
        ({"run_id": None}, "run_id"),
        ({"actor": "x" * 301}, "actor"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(run: Run, claims: dict[str, Any], words: str) -> None:
    answer = run.report(claims=claims)
    assert_problem(answer, 401, words)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not Release.objects.filter(version="2.0.0").exists()


def test_clocks_may_differ_a_little(run: Run) -> None:
    now = int(time.time())
    assert run.report(claims={"iat": now + 20, "nbf": now + 20}).status_code == 201
    assert run.deploy(iat=now - 300, nbf=None, exp=now - 20).status_code == 201


def test_several_audiences_and_other_letters(run: Run) -> None:
    assert run.report(claims={"aud": ["x", AUDIENCE], "repository": "Pitchey/API"}).status_code == 201
    assert run.report("2.0.1", claims={"ref": "refs/tags/v2"}).status_code == 201


class TestForgeries:
    def test_no_signature(self, run: Run, issuer: Issuer) -> None:
        forged = unsigned(issuer.claims(), {"alg": "none", "kid": "one"})
        assert_problem(run.report(token=forged), 401, "RS256 or ES256")

    def test_the_public_key_as_a_secret(self, run: Run, issuer: Issuer) -> None:
        forged = unsigned(issuer.claims(), {"alg": "HS256", "kid": "one"})[:-1]
        signature = hmac.digest(RSA["one"].as_pem(private=False), forged.encode(), "sha256")
        forged += "." + base64.urlsafe_b64encode(signature).decode().rstrip("=")
        assert_problem(run.report(token=forged), 401, "RS256 or ES256")

    def test_another_key_under_a_known_name(self, run: Run, issuer: Issuer) -> None:
        assert_problem(run.report(token=issuer.token(RSA["two"], kid="one")), 401, "signature")

    def test_an_algorithm_that_is_not_the_key_s(self, run: Run, issuer: Issuer) -> None:
        assert_problem(run.report(token=issuer.token(RSA["two"], kid="curve")), 401, "name and kind")

    def test_other_claims_under_a_signature(self, run: Run, issuer: Issuer) -> None:
        header, _, signature = issuer.token(repository="mallory/api").split(".")
        claims = unsigned(issuer.claims(), {}).split(".")[1]
        assert_problem(run.report(token=f"{header}.{claims}.{signature}"), 401, "signature")

    def test_an_address_of_keys_in_the_token(self, run: Run, issuer: Issuer) -> None:
        header = {"alg": "RS256", "kid": "two", "jku": "http://127.0.0.1:1/", "jwk": RSA["two"].as_dict(private=False)}
        forged = jwt.encode(header, issuer.claims(), RSA["two"])
        assert_problem(run.report(token=forged), 401)

    def test_a_short_key(self, run: Run, issuer: Issuer) -> None:
        with pytest.warns(SecurityWarning):
            short = RSAKey.generate_key(1024, {"kid": "short"})
        issuer.published = [short]
        assert_problem(run.report(token=issuer.token(short)), 401, "no key")

    @pytest.mark.parametrize("text", ["a.b.c", "..", "e30.e30.", "é.b.c", "a" * 20_000 + ".b.c", "[].[].", "no-dots"])
    def test_rubbish(self, run: Run, text: str) -> None:
        assert_problem(run.report(token=text), 401)


class TestUses:
    def test_one_change_a_token(self, run: Run, issuer: Issuer) -> None:
        token = issuer.token()
        assert run.report(token=token).status_code == 201
        assert_problem(run.deploy(token=token), 401, "fresh one")
        assert_problem(run.report(token=token), 401, "fresh one")
        assert not Operation.objects.exists()
        # Looking is no change.
        assert run.get("operations/0", token=token).status_code == 404

    def test_the_same_request_again_under_its_key(self, run: Run, issuer: Issuer) -> None:
        token = issuer.token()
        first = run.deploy(token=token, key="build-1001")
        again = run.deploy(token=token, key="build-1001")
        assert (again.status_code, again.content) == (201, first.content)
        assert Operation.objects.count() == 1
        assert_problem(run.deploy("staging", token=token, key="build-1001"), 401, "fresh one")
        # A fresh token for the same request gets the same answer.
        assert run.deploy(key="build-1001").content == first.content
        assert Operation.objects.count() == 1

    def test_used_ones_are_dropped_once_nothing_would_take_them(self, run: Run) -> None:
        run.report()
        assert identity.forget_used() == 0
        UsedToken.objects.update(expires_at="2020-01-01T00:00:00Z")
        assert identity.forget_used() == 1

    def test_neither_token_nor_its_number_is_stored(self, run: Run, issuer: Issuer) -> None:
        claims = {"jti": "very-secret-number"}
        run.report(claims=claims)
        assert "very-secret" not in str(UsedToken.objects.values())


class TestRights:
    def test_only_the_routes_of_pipelines(self, run: Run, estate: Estate) -> None:
        number = run.deploy().json()["operation"]
        digest = Operation.objects.get().plan_digest
        assert_problem(run.post(f"operations/{number}/approvals", {"plan_digest": digest}), 401)
        assert_problem(run.post(f"operations/{number}/cancel", {"reason": "x"}), 401)
        assert_problem(run.get("environments"), 401)
        assert Operation.objects.get().state == State.AWAITING_APPROVAL

    def test_another_service(self, run: Run, estate: Estate) -> None:
        assert_problem(run.report(service="web"), 403)
        Pipeline.objects.update(services=["web"])
        assert_problem(run.report(), 403)
        assert_problem(run.deploy(), 403, "may not ask for deployments of api")

    def test_another_environment(self, run: Run, estate: Estate) -> None:
        Grant.objects.filter(scope="production").delete()
        assert_problem(run.deploy(), 404)
        assert run.deploy("staging", "1.4.0").status_code == 201

    def test_one_that_may_only_deploy(self, run: Run) -> None:
        Pipeline.objects.update(may_report=False)
        assert_problem(run.report(), 403)

    def test_a_paused_rule_and_a_deactivated_person(self, run: Run) -> None:
        Pipeline.objects.update(paused=True)
        assert_problem(run.report(), 401)
        Pipeline.objects.update(paused=False)
        Person.objects.update(is_active=False)
        assert_problem(run.report(), 401)

    def test_a_commit_that_is_not_the_run_s(self, run: Run) -> None:
        assert_problem(run.report(commit="f" * 40), 422, SHA)

    def test_the_number_of_the_repository(self, run: Run) -> None:
        Pipeline.objects.update(repository_id="43")
        assert_problem(run.report(), 401, "another number")
        Pipeline.objects.update(repository_id="42")
        assert run.report().status_code == 201

    def test_the_environment_of_the_job(self, run: Run) -> None:
        Pipeline.objects.update(job_environments=["production"])
        assert_problem(run.report(), 401, "environment production")
        assert run.report(claims={"environment": "production"}).status_code == 201

    def test_the_first_rule_that_fits(self, run: Run, issuer: Issuer) -> None:
        make_rule(issuer.url, "tags", position=0, refs=["refs/tags/*"], environments=[])
        run.report(claims={"ref": "refs/tags/v2"})
        assert ReleaseReport.objects.get().pipeline.slug == "tags"

    def test_a_rule_that_lost_an_environment_before_the_start(self, run: Run, estate: Estate) -> None:
        Grant.objects.filter(scope="staging").count()
        number = run.deploy("staging", "1.4.0").json()["operation"]
        Grant.objects.filter(scope="staging").delete()
        engine.run(number, "w1")
        assert Operation.objects.get().state == State.STALE
