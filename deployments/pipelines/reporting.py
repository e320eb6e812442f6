"""A release that a workflow run makes known, with where it comes from."""

from typing import Any

from django.db import transaction

from controlplane.operations.errors import Invalid
from deployments.models import Release, ReleaseReport
from deployments.pipelines.checks import combined, hold, runs_of
from deployments.pipelines.identity import Workflow
from deployments.services import create_release, set_ci


def report_release(
    actor: Workflow, *, service: str, version: str, commit: str = "", ci: str = "", **values: Any
) -> Release:
    """Make the release known and keep the run. Raises as `create_release`, and Invalid for another run's commit."""
    run, pipeline = actor.run, actor.pipeline
    if commit and run.sha and commit != run.sha:
        raise Invalid(f"This run is one of the commit {run.sha}, so it cannot report a release of {commit}.")
    commit = commit or run.sha
    with transaction.atomic():
        hold(pipeline)
        others = runs_of(pipeline, commit, besides=run.run_id) if commit else []
        # Of a release that is known, what others say has come in already: who says nothing here changes nothing.
        is_new = not Release.objects.filter(service__slug=service, version=version).exists()
        wanted = combined([ci, *others]) if ci or is_new else ""
        release = create_release(actor, service=service, version=version, commit=commit, ci=wanted, **values)
        report, _ = ReleaseReport.objects.get_or_create(
            release=release,
            defaults={
                "pipeline": pipeline, "repository": run.repository, "ref": run.ref, "sha": run.sha,
                "run_id": run.run_id, "run_attempt": run.run_attempt, "run_actor": run.actor, "ci": ci,
            },
        )  # fmt: skip
        if report.run_id != run.run_id:
            return release
        if ci and report.ci != ci:
            # The same run, tried again: its newer word counts.
            ReleaseReport.objects.filter(pk=report.pk).update(ci=ci, run_attempt=run.run_attempt)
        if wanted and release.ci != wanted:
            # Also where a person made the release known first: of a run's release the runs speak.
            set_ci(actor.who, release, wanted)
    return release
