"""What is reported of a release besides its checks: scans, signatures, attestations, and whether migrations go back."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from controlplane.audit.record import Who, record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid
from deployments.models import Release, ReleaseEvidence

AT_MOST = 50  # of the scans, and of the rest
Kind = ReleaseEvidence.Kind

Reported = Iterable[tuple[str, Mapping[str, Any]]]


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def add_evidence(who: Who, release: Release, reported: Reported, migrations: str = "") -> None:
    """Keep what was reported, in the caller's transaction; the same again is no change.

    Of scans the last one counts, so one that is reported once more after another becomes the newest again.

    reported: kind and content of each, as `ReleaseEvidence` says. Raises Conflict where it was said otherwise whether
    the migrations can be taken back, and Invalid when there are more signatures than anybody would look at.
    """
    if migrations and release.migrations not in ("", migrations):
        raise Conflict(f"{release} is known with migrations: {release.migrations}. Give the new build a new version.")
    # Two reports at once would not agree on which scan came last.
    Release.objects.select_for_update(no_key=True).get(pk=release.pk)
    added = [kind for kind, content in reported if _add(who, release, kind, content)]
    if release.evidence.exclude(kind=Kind.SCAN).count() > AT_MOST:
        raise Invalid(f"More than {AT_MOST} signatures and attestations of one release are not kept.")
    if Kind.SCAN in added:
        _drop_oldest_scans(release)
    if migrations and release.migrations != migrations:
        Release.objects.filter(pk=release.pk).update(migrations=migrations)
        release.migrations = migrations
        added.append("migrations")
    if added:
        transaction.on_commit(lambda: ring("news", "releases"))
        data = {"digest": release.digest, "added": added, "migrations": release.migrations}
        record(who, "release.evidence", f"release {release}", data=data)


def _add(who: Who, release: Release, kind: str, content: Mapping[str, Any]) -> bool:
    row, first = ReleaseEvidence.objects.get_or_create(
        release=release, kind=kind, fingerprint=fingerprint_of(content),
        defaults={"content": dict(content), "added_by_name": who.name},
    )  # fmt: skip
    if first or kind != Kind.SCAN or row == _newest_first(release).first():
        return first
    ReleaseEvidence.objects.filter(pk=row.pk).update(added_at=Now(), added_by_name=who.name)
    return True


def _newest_first(release: Release) -> QuerySet[ReleaseEvidence]:
    return release.evidence.filter(kind=Kind.SCAN).order_by("-added_at", "-pk")


def _drop_oldest_scans(release: Release) -> None:
    """Nothing goes by them any more, and no number of them may keep the next one out."""
    kept = list(_newest_first(release).values_list("pk", flat=True)[:AT_MOST])
    release.evidence.filter(kind=Kind.SCAN).exclude(pk__in=kept).delete()
