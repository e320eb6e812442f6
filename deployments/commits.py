"""The commits of releases, as their pipelines reported them, and what lies between two releases.

We have no clone, so "is an ancestor of" is answered from what was reported: the newest commits of each release, along
first parents. On such a line everything that stands before a commit came after it, so a list is either right, or there
is none and words say why.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import transaction

from controlplane.audit.record import Who, record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict
from deployments.by_digest import releases_with
from deployments.models import Deployment, Release, ReleaseCommits
from deployments.strategies.rolling import several

AT_MOST = 200  # commits of a release that are kept
SHOWN = 30


class Relation(StrEnum):
    """What going from one release to another does, as far as commits tell."""

    BRINGS = "brings"
    TAKES_AWAY = "takes_away"
    SAME = "same"
    APART = "apart"  # neither has the other's commit among those that were reported
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Commit:
    """One commit. title: its first line. url: its page, "" where the repository is not known."""

    sha: str
    author: str
    at: datetime
    title: str
    url: str = ""


@dataclass(frozen=True)
class Between:
    """From one release to another. commits: those that it brings or takes away, the newest first.

    why: where there is no list, the reason, in words. compare: the repository's page that shows all of it, "" where
    that is not known.
    """

    relation: Relation
    commits: Sequence[Commit] = field(default_factory=list)
    why: str = ""
    compare: str = ""

    @property
    def words(self) -> str:
        """How many it brings or takes away; "" where there is no list."""
        verb = {Relation.BRINGS: "brings", Relation.TAKES_AWAY: "takes away"}.get(self.relation, "")
        count = len(self.commits)
        return f"{verb} {count} commit{'' if count == 1 else 's'}" if verb else ""

    @property
    def shown(self) -> Sequence[Commit]:
        """As many as a page shows."""
        return self.commits[:SHOWN]

    @property
    def more(self) -> int:
        """How many are left out of those."""
        return max(0, len(self.commits) - SHOWN)


def commit_of(release: Release) -> str:
    """The commit that it was built from; the word of its run, which the issuer signed, before anybody else's."""
    report = getattr(release, "report", None)
    return (report.sha if report else "") or release.commit


def keep_commits(who: Who, release: Release, commits: Sequence[dict[str, Any]]) -> None:
    """Keep the reported history, in the caller's transaction; the same again is no change, and older ones are added.

    A history that begins with another commit than the release's is that of a later report of the same build, of which
    the first report counts: it is not kept. Raises Conflict where the same commit was reported with another history.
    """
    if not commits or commits[0]["sha"] != commit_of(release):
        return
    # One report after the other.
    Release.objects.select_for_update(no_key=True).get(pk=release.pk)
    row = ReleaseCommits.objects.filter(release=release).first()
    kept = row.commits if row else []
    if any(old["sha"] != new["sha"] for old, new in zip(kept, commits, strict=False)):
        raise Conflict(f"{release} is known with another history of the same commit. Its commits cannot be changed.")
    older = list(commits[len(kept) :])
    if older:
        ReleaseCommits.objects.update_or_create(release=release, defaults={"commits": [*kept, *older]})
        transaction.on_commit(lambda: ring("news", "releases"))
        data = {"commit": commits[0]["sha"], "known": len(kept) + len(older)}
        record(who, "release.commits", f"release {release}", data=data)


def commits_of_deployment(deployment: Deployment) -> Between | None:
    """What it brings, or takes away; None where what ran before is not one known release, or was this one."""
    ran = several(deployment.from_version)
    return commits_from({deployment.from_digest}, ran, deployment.release) if len(ran) == 1 else None


def commits_from(digests: set[str], versions: Iterable[str], there: Release) -> Between | None:
    """From what runs with these digests to the release; None where that is not one known release, or is this one."""
    known = releases_with(there.service_id, digests, versions).select_related("report__pipeline")
    here = known.first() if len(digests) == 1 else None
    return commits_between(here, there) if here and here != there else None


def commits_between(here: Release, there: Release) -> Between:
    """What going from what runs here to the other release brings, or takes away; one query, and two for reports."""
    if here == there:
        return Between(Relation.SAME, why=f"It is {here.version} both times.")
    one, other = commit_of(here), commit_of(there)
    unknown = next((release for release, sha in ((here, one), (there, other)) if not sha), None)
    if unknown:
        return Between(Relation.UNKNOWN, why=f"The commit of {unknown.version} is not known.")
    if one == other:
        return Between(Relation.SAME, why=f"{here.version} and {there.version} are built from the same commit.")
    compare = _compare_url(here, there)
    rows = ReleaseCommits.objects.filter(release__in=[here, there])
    histories: dict[int, list[dict[str, Any]]] = {row.release_id: row.commits for row in rows}
    if newer := _down_to(one, histories.get(there.pk, []), there):
        return Between(Relation.BRINGS, newer, compare=compare)
    if newer := _down_to(other, histories.get(here.pk, []), here):
        return Between(Relation.TAKES_AWAY, newer, compare=compare)
    if there.pk not in histories:
        return Between(Relation.UNKNOWN, why=f"Nobody reported the commits of {there.version}.", compare=compare)
    why = (
        f"The commit of {here.version}, {one[:10]}, is not an ancestor of {there.version} as far as its newest "
        f"{len(histories[there.pk])} reported commits tell: it is on another branch, or further back."
    )
    return Between(Relation.APART, why=why, compare=compare)


def _down_to(sha: str, history: Sequence[dict[str, Any]], release: Release) -> list[Commit]:
    """The commits of the release's history that came after that one; none where it is not among them."""
    shas = [row["sha"] for row in history]
    if sha not in shas:
        return []
    base = _repository_url(release)
    return [
        Commit(
            row["sha"], row["author"], datetime.fromisoformat(row["at"]), row["title"],
            f"{base}/commit/{row['sha']}" if base else "",
        )
        for row in history[: shas.index(sha)]
    ]  # fmt: skip


def _repository_url(release: Release) -> str:
    report = getattr(release, "report", None)
    return report.repository_url if report else ""


def _compare_url(here: Release, there: Release) -> str:
    """Of one repository; three dots, as its page shows what the second has that the first has not."""
    base = _repository_url(there)
    if not base or base != _repository_url(here):
        return ""
    return f"{base}/compare/{commit_of(here)}...{commit_of(there)}"
