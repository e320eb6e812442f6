"""Scans, signatures and attestations are kept with a release, each once; what was said of migrations stays said."""

import base64
from functools import partial
from typing import Any

import pytest

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.operations.gates import Gate
from deployments.gates.asking import gates_for
from deployments.models import Deployment, Policy, Release, ReleaseEvidence
from deployments.pipelines.evidence import AT_MOST, add_evidence
from tests.api.conftest import Calls, assert_problem
from tests.api.conftest import calls as calls  # noqa: PLC0414 (a fixture)
from tests.deployments.pipelines.conftest import Run
from tests.estate import Estate

SCAN: dict[str, Any] = {
    "tool": "trivy",
    "findings": {"critical": 0, "high": 2},
    "url": "https://ci.example/7",
    "digest": "sha256:" + "a" * 64,
}
SIGNATURE = {"payload": base64.b64encode(b"{}").decode(), "signature": "MEUCIQ=="}
ENVELOPE: dict[str, Any] = {
    "payloadType": "application/vnd.in-toto+json",
    "payload": "e30=",
    "signatures": [{"sig": "MEUCIQ=="}],
}
ALL: dict[str, Any] = {
    "scan": SCAN,
    "signatures": [SIGNATURE],
    "attestations": [ENVELOPE],
    "migrations": "reversible",
    "ci": "passed",
}


def kinds() -> list[str]:
    return list(ReleaseEvidence.objects.order_by("kind").values_list("kind", flat=True))


def test_a_run_reports_everything(run: Run) -> None:
    answer = run.report(**ALL)
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert [one["kind"] for one in told["evidence"]] == ["scan", "signature", "attestation"]
    assert {one["added_by"] for one in told["evidence"]} == {"pitchey/api run 1001 (octocat)"}
    assert told["migrations"] == "reversible"
    assert ReleaseEvidence.objects.get(kind="scan").content["findings"] == SCAN["findings"], "only what it said"
    assert Entry.objects.get(action="release.evidence").data["added"] == [
        "scan", "signature", "attestation", "migrations",
    ]  # fmt: skip


def test_the_same_again_is_no_change_and_more_is_added(run: Run) -> None:
    first = run.report(**ALL).json()
    assert run.report(**ALL).json() == first
    assert Entry.objects.filter(action="release.evidence").count() == 1
    run.report(**{**ALL, "scan": {**SCAN, "tool": "grype"}})
    assert kinds() == ["attestation", "scan", "scan", "signature"]


def scan_of(critical: int, tool: str = "trivy") -> dict[str, Any]:
    """What the tool found."""
    return {**SCAN, "tool": tool, "findings": {"critical": critical}}


def scan_gate(estate: Estate) -> Gate:
    """How the gate of production stands that wants no critical finding."""
    Policy.objects.update_or_create(
        environment=estate.production, defaults={"evidence": ["scan"], "findings": {"critical": 0}}
    )
    gates = gates_for(estate.production, Release.objects.get(version="2.0.0"), kind=Deployment.Kind.DEPLOY)
    return next(gate for gate in gates if gate.key == "scan")


@pytest.mark.parametrize(("found", "wanted"), [((3, 0, 3), "failed"), ((0, 3, 0), "passed")])
def test_the_last_scan_counts_also_when_it_finds_what_one_found_before(
    run: Run, estate: Estate, found: tuple[int, ...], wanted: str
) -> None:
    for critical in found:
        assert run.report(scan=scan_of(critical)).status_code == 201
    assert str(scan_gate(estate).outcome) == wanted
    assert Entry.objects.filter(action="release.evidence").count() == 3, "each of them is in the trail"
    assert kinds() == ["scan", "scan"]
    run.report(scan=scan_of(found[-1]))
    assert Entry.objects.filter(action="release.evidence").count() == 3, "the newest again is no change"


def test_no_number_of_scans_keeps_the_next_one_out(run: Run, estate: Estate) -> None:
    run.report(signatures=[SIGNATURE])
    release = Release.objects.get(version="2.0.0")
    add = partial(add_evidence, SYSTEM("ci"), release)
    for number in range(AT_MOST + 5):
        add([("scan", scan_of(0, f"tool {number}"))])
    assert run.report(scan=scan_of(1)).status_code == 201
    assert scan_gate(estate).reason.startswith("trivy found 1 critical")
    tools = [one.content["tool"] for one in release.evidence.filter(kind="scan").order_by("added_at")]
    assert tools == [*(f"tool {number}" for number in range(6, AT_MOST + 5)), "trivy"], "the newest are kept"
    assert release.evidence.filter(kind="signature").exists()


def test_more_signatures_than_anybody_looks_at_are_refused_and_change_nothing(run: Run) -> None:
    run.report(scan=scan_of(0))
    release = Release.objects.get(version="2.0.0")
    for number in range(AT_MOST):
        ReleaseEvidence.objects.create(
            release=release, kind="signature", content={}, fingerprint=str(number), added_by_name="ci"
        )
    assert_problem(run.report(signatures=[SIGNATURE]), 422, "signatures")
    assert run.report(scan=scan_of(1)).status_code == 201, "a scan is taken all the same"


def test_a_person_s_token_does_as_well(alice: Person, estate: Estate, calls: Calls) -> None:
    body = {"service": "api", "version": "2.0.0", "image": "i", "digest": "sha256:" + "2" * 64, **ALL}
    assert calls(alice).post("releases", body).status_code == 201
    assert kinds() == ["attestation", "scan", "signature"]


def test_migrations_cannot_be_said_otherwise(run: Run) -> None:
    run.report(migrations="one-way")
    assert_problem(run.report(migrations="reversible"), 409, "one-way")
    assert run.report().json()["migrations"] == "one-way"


def test_nothing_is_kept_of_what_is_refused(run: Run) -> None:
    assert_problem(run.report(service="web", **ALL), 403)
    assert not ReleaseEvidence.objects.exists() and not Release.objects.filter(version="2.0.0").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"scan": {**SCAN, "findings": {"critical": -1}}},
        {"scan": {**SCAN, "digest": "md5:1"}},
        {"scan": {**SCAN, "url": "javascript:alert(1)"}},
        {"scan": {"tool": "trivy"}},
        {"signatures": [{"payload": "not base 64!", "signature": "x"}]},
        {"signatures": [SIGNATURE] * 11},
        {"attestations": [{**ENVELOPE, "signatures": []}]},
        {"migrations": "perhaps"},
        {"sbom": {}},
    ],
)
def test_what_is_none(run: Run, changes: dict[str, Any]) -> None:
    assert_problem(run.report(**changes), 422)
    assert not Release.objects.filter(version="2.0.0").exists()
