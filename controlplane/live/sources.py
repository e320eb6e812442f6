"""What can be followed live: each app registers its sources in `AppConfig.ready()`."""

from dataclasses import dataclass
from typing import Any, Protocol

# The words of the news, each naming a part of the pages that may look different now.
WORDS = (
    "alerts", "backups", "canary", "environments", "health", "inbox", "incidents", "operations", "releases", "runbook",
    "world",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One message as viewers get it, rendered for browsers (`html`) and for programs (`json`, on one line).

    seq: its number, which is the cursor after it; 0 for a message that is not part of the sequence.
    event: "line" for more of the same; "status" for what replaces the one before; "end" when nothing will follow,
    after which the streams of that key are closed.
    """

    seq: int
    event: str
    html: str
    json: str


class Source(Protocol):
    """Rows of many keys (operations, say), each key with one sequence of its own.

    The order of the numbers must be the order of the commits: a row that becomes visible after a higher number
    was read is never sent. `viewer` is what the `authenticate` given to LiveApp returned.
    """

    prefix: str

    def authorize(self, viewer: Any, key: str) -> None:
        """Return if the viewer may see the key; else raise PermissionDenied or Http404."""

    def last(self, key: str) -> int:
        """The number of the newest row, 0 if there is none."""

    def read(self, key: str, after: int, limit: int) -> list[Row]:
        """The first `limit` rows with a number above `after`, in order.

        After a row that is not a "line" the extras are asked for at once, after lines three times a second at most.
        """

    def extras(self, key: str) -> list[Row]:
        """What is not a sequence, as it is now, each with seq 0: the status, and "end" if nothing will follow.

        Sent on connecting and whenever it reads differently; so it must not contain the time of rendering.
        """


_sources: dict[str, Source] = {}


def register(source: Source) -> None:
    """Serve the source as /live/<prefix>/<key>. Raises ValueError when the prefix is taken by another."""
    if _sources.setdefault(source.prefix, source) is not source:
        raise ValueError(f"the live source {source.prefix} is registered twice")


def source_for(prefix: str) -> Source | None:
    """The source of a prefix, None when there is no such."""
    return _sources.get(prefix)
