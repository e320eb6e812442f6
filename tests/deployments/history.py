"""Histories of commits for the tests: sha 1 is the oldest."""

from typing import Any

from deployments.models import Release, ReleaseCommits


def sha(number: int, line: str = "a") -> str:
    """The whole name of a commit. line: the branch, as a letter that hexadecimal numbers have."""
    return f"{line}{number:039d}"


def commit(number: int, line: str = "a", **changes: Any) -> dict[str, Any]:
    """One as a pipeline reports it."""
    at = f"2026-11-{number % 28 + 1:02}T10:00:00Z"
    return {"sha": sha(number, line), "author": "Olga", "at": at, "title": f"Change {number}", **changes}


def history(newest: int, count: int, line: str = "a") -> list[dict[str, Any]]:
    """The newest so many commits, their newest first."""
    return [commit(number, line) for number in range(newest, newest - count, -1)]


def built(release: Release, newest: int, count: int = 0, line: str = "a") -> Release:
    """The release is of this commit, and so many commits of its history were reported."""
    release.commit = sha(newest, line)
    release.save(update_fields=["commit"])
    if count:
        ReleaseCommits.objects.create(release=release, commits=history(newest, count, line))
    return release
