"""What was reported of a release: how its checks ended, what a scan found, and who signed the image."""

from collections.abc import Mapping

from controlplane.operations.gates import Gate, Outcome
from deployments.gates.known import Known
from deployments.gates.signatures import Forged, attested, signed
from deployments.models import Policy, Release, ReleaseEvidence

SEVERITIES = ("critical", "high", "medium", "low")
Kind = ReleaseEvidence.Kind


def ci_passed(release: Release, policy: Policy) -> Gate:
    """The guide's pipeline: tests pass before anything is deployed."""
    title = "CI passed"
    if release.ci == Release.CI.PASSED:
        return Gate("ci", title, Outcome.PASSED, f"all checks of {release.version} passed")
    if release.ci == Release.CI.PENDING:
        return Gate("ci", title, Outcome.PENDING, f"the checks of {release.version} are still running")
    if release.ci == Release.CI.FAILED:
        words = f"the checks of {release.version} failed. Mend it and build a new release."
        return Gate("ci", title, Outcome.FAILED, words)
    if policy.approvals_required == 0:
        return Gate("ci", title, Outcome.PASSED, "not known, and not asked for here")
    return Gate("ci", title, Outcome.FAILED, f"nobody said how the checks of {release.version} ended.")


def gates(release: Release, known: Known) -> list[Gate]:
    """One gate for each kind of evidence that the policy wants."""
    policy = known.policy
    reported: dict[str, list[ReleaseEvidence]] = {}
    for one in known.evidence:
        reported.setdefault(one.kind, []).append(one)
    return [_gate(kind, release, policy, reported.get(kind, [])) for kind in policy.evidence]


def _gate(kind: str, release: Release, policy: Policy, reported: list[ReleaseEvidence]) -> Gate:
    if kind == Kind.SCAN:
        return _scanned(release, policy, reported)
    title = "Image signed" if kind == Kind.SIGNATURE else "Build attested"
    if not reported:
        word = Kind(kind).label
        words = f"no {word} of {release.version} was reported. Have its pipeline report one."
        return Gate(kind, title, Outcome.FAILED, words)
    check = signed if kind == Kind.SIGNATURE else attested
    problems = []
    for one in reported:
        try:
            return Gate(kind, title, Outcome.PASSED, check(one.content, policy.keys, release.digest))
        except Forged as error:
            problems.append(str(error))
    words = f"{problems[-1]}. Sign the image that was built with a key of this environment's policy."
    return Gate(kind, title, Outcome.FAILED, words)


def _scanned(release: Release, policy: Policy, reported: list[ReleaseEvidence]) -> Gate:
    """The last scan counts."""
    title = "Security scan"
    if not reported:
        words = f"no scan of {release.version} was reported. Have its pipeline report one."
        return Gate("scan", title, Outcome.FAILED, words)
    last = reported[-1].content
    said: Mapping[str, int] = last.get("findings", {})
    tool = last.get("tool") or "the scan"
    if silent := [name for name in SEVERITIES if name in policy.findings and name not in said]:
        words = f"{tool} did not say how many {' and '.join(silent)} findings there are. Have its pipeline report it."
        return Gate("scan", title, Outcome.FAILED, words)
    found = ", ".join(f"{said[name]} {name}" for name in SEVERITIES if said.get(name))
    words = f"{tool} found {found or 'nothing'}"
    over = [name for name, most in policy.findings.items() if said[name] > most]
    if over:
        return Gate("scan", title, Outcome.FAILED, f"{words}: too many. Mend it and build a new release.")
    return Gate("scan", title, Outcome.PASSED, words)
