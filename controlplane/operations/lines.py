"""Lines of the log, in the two forms in which they leave the house: HTML for pages, JSON for programs.

Rendered by hand, not by a template: a running deployment says hundreds of lines a second, and each costs a
few microseconds here. `tests/operations/test_pages_log.py` holds it equal to `templates/web/_log_line.html`.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.utils.safestring import SafeString, mark_safe

from controlplane.operations.models import Event

MONTHS = ["", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
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
        at = self.at.isoformat(timespec="microseconds")  # cut in pieces below: strftime would take most of the time
        hover = f"{self.at.day} {MONTHS[self.at.month]} {at[:4]} {at[11:26]} UTC"
        return (
            f'<li id="L{self.seq}"{marked}><a href="#L{self.seq}">{self.seq}</a>'
            f'<time datetime="{at}" title="{hover}">{at[11:23]}</time><span>{escape(self.text)}</span></li>'
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
        text = self.text.replace("\n", "\n       ")  # nobody's words look like a line of their own
        return f"{self.seq:>6} {self.at:%Y-%m-%d %H:%M:%S}.{self.at.microsecond // 1000:03}Z {text}"


def lines_between(operation_id: int, first: int, last: int) -> list[Line]:
    """The lines with these numbers, both included, in order.

    The numbers have no gap, so a page of a log is a range of them, never "the newest so many": the database
    then reads just these rows, whatever it believes of the table right after a hundred thousand were added.
    """
    return _lines(Event.objects.filter(operation_id=operation_id, seq__gte=first, seq__lte=last))


def lines_with(operation_id: int, words: str, limit: int) -> list[Line]:
    """The first lines that have the words in them, in order."""
    return _lines(Event.objects.filter(operation_id=operation_id, text__icontains=words), limit)


def _lines(events: QuerySet[Event], limit: int | None = None) -> list[Line]:
    return [Line(*row) for row in events.order_by("seq").values_list(*Line._fields)[:limit]]


def as_html(lines: Sequence[Line]) -> SafeString:
    """Their `<li>`s, one a row. Safe: every text was escaped on the way."""
    return mark_safe("\n".join(line.html for line in lines))  # noqa: S308
