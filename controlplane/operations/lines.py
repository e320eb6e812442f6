"""Lines of the log, in the two forms in which they leave the house: HTML for pages, JSON for programs.

Rendered by hand, not by a template: a running deployment says hundreds of lines a second, and each costs a
few microseconds here. `tests/operations/test_pages_log.py` holds it equal to `templates/web/_log_line.html`.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any, NamedTuple

from django.db.models import Q
from django.utils.safestring import SafeString, mark_safe

from controlplane.operations.models import Event

LEVELS = {"line": "", "step": "note", "state": "note", "warning": "warn", "error": "err"}


class Line(NamedTuple):
    """One event, as read for showing. Its fields are the columns of `Event`, less the operation."""

    seq: int
    at: datetime
    kind: str
    step: str
    text: str

    @property
    def html(self) -> str:
        """The `<li>` of the log."""
        level = LEVELS[self.kind]
        marked = f' class="{level}"' if level else ""
        at = self.at
        clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
        hover = f"{at.day} {at:%b %Y %H:%M:%S}.{at.microsecond:06} UTC"
        return (
            f'<li id="L{self.seq}"{marked}><a href="#L{self.seq}">{self.seq}</a>'
            f'<time datetime="{at.isoformat()}" title="{hover}">{clock}</time><span>{escape(self.text)}</span></li>'
        )

    def as_json(self) -> dict[str, Any]:
        """The event object of the API."""
        return {**self._asdict(), "at": self.at.isoformat()}

    @property
    def json(self) -> str:
        """The event object of the API, as text."""
        return json.dumps(self.as_json(), ensure_ascii=False)

    @property
    def plain(self) -> str:
        """One line of a text file."""
        return f"{self.seq:>6} {self.at:%Y-%m-%d %H:%M:%S}.{self.at.microsecond // 1000:03}Z {self.text}"


def lines_of(operation_id: int, *matching: Q, limit: int, newest: bool = False) -> list[Line]:
    """At most `limit` lines that match, in order; with newest, the last of them instead of the first."""
    rows = Event.objects.filter(*matching, operation_id=operation_id).order_by("-seq" if newest else "seq")
    lines = [Line(*row) for row in rows.values_list(*Line._fields)[:limit]]
    return lines[::-1] if newest else lines


def as_html(lines: Sequence[Line]) -> SafeString:
    """Their `<li>`s, one a row. Safe: every text was escaped on the way."""
    return mark_safe("\n".join(line.html for line in lines))  # noqa: S308
