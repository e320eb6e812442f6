"""How the checks of a release ended, from what its own run said and from what webhooks say of the others.

1. The run that reported the release speaks for itself, by its report: it cannot have ended yet, as it may be waiting
   for this very deployment. What a webhook says of it later, its deployment included, does not count.
2. Every other run of the commit that the rule counts has the word of its newest attempt.
3. One that failed makes it failed, else one that runs makes it pending, else it passed.
4. Where nobody's run reported the release, a person's "passed" stands; webhooks only fill in what is not known yet,
   and turn a failure into a pass when it was run again.
"""

from collections.abc import Iterable

from controlplane.audit.record import Who
from deployments.models import Pipeline, Release, ReleaseReport, WorkflowRun
from deployments.services import set_ci

CI = Release.CI


def combined(said: Iterable[str]) -> str:
    """What several words come to; "" when nobody said anything."""
    words = {word for word in said if word}
    return next((worst for worst in (CI.FAILED, CI.PENDING, CI.PASSED) if worst in words), CI.UNKNOWN)


def hold(pipeline: Pipeline) -> None:
    """One after the other: whoever reports a release and whoever hears of a run see what the other wrote.

    Until the end of the transaction; take it before anything else of the pipeline's.
    """
    Pipeline.objects.select_for_update(no_key=True).get(pk=pipeline.pk)


def runs_of(pipeline: Pipeline, sha: str, *, besides: str = "") -> list[str]:
    """What the runs of a commit that count said last. besides: the number of the run that speaks for itself."""
    runs = WorkflowRun.objects.filter(pipeline=pipeline, sha=sha).exclude(run_id=besides)
    if pipeline.workflows:
        runs = runs.filter(workflow__in=pipeline.workflows)
    return list(runs.values_list("ci", flat=True))


def settle(who: Who, pipeline: Pipeline, sha: str) -> list[Release]:
    """Bring the releases of a commit up to what is known, in the caller's transaction; returns those that changed."""
    releases = Release.objects.select_for_update(of=("self",)).filter(service__slug__in=pipeline.services, commit=sha)
    known = [(release, _verdict(pipeline, release)) for release in releases.select_related("service").order_by("pk")]
    changed = [(release, wanted) for release, wanted in known if wanted and wanted != release.ci]
    for release, wanted in changed:
        set_ci(who, release, wanted)
    return [release for release, _ in changed]


def _verdict(pipeline: Pipeline, release: Release) -> str:
    report = ReleaseReport.objects.filter(release=release).first()
    if report is not None:
        return combined([report.ci, *runs_of(pipeline, release.commit, besides=report.run_id)])
    said = combined(runs_of(pipeline, release.commit))
    stands = release.ci == CI.PASSED or (release.ci == CI.FAILED and said != CI.PASSED)
    return release.ci if stands else said
