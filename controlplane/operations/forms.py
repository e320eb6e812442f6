"""What people send to the pages of an operation."""

from collections.abc import Mapping
from typing import Any

from django import forms

from controlplane.operations.errors import Invalid
from controlplane.operations.keyset import key_in
from controlplane.operations.lines import Line, lines_between, lines_with
from controlplane.operations.models import Operation
from controlplane.operations.states import Answer

LINES = 500
TAIL = 5000


class AnswerForm(forms.Form):
    """What a person says of a step whose end nobody knows."""

    step = forms.CharField(max_length=120)
    answer = forms.ChoiceField(choices=Answer.choices)
    comment = forms.CharField(max_length=2000, required=False)
    attempt = forms.IntegerField(min_value=0, max_value=2**31 - 1)

    def said(self) -> dict[str, Any]:
        """The arguments of `transitions.resolve`. Raises Invalid."""
        if not self.is_valid():
            raise Invalid("Choose one of the four answers.")
        data = self.cleaned_data
        return {
            "step_key": data["step"],
            "answer": Answer(data["answer"]),
            "comment": data["comment"],
            "attempt": data["attempt"],
        }


class LogQuery:
    """Which part of a log: `before`, `after` or `around` a number, its `tail`, or the lines with `q` in them."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.q = given.get("q", "").strip()[:200]
        self._numbers = {name: key_in(given[name]) for name in ("before", "after", "around", "tail") if name in given}

    def lines(self, operation: Operation) -> list[Line]:
        """The lines, in order, at most some hundred; the end of the log when nothing is asked for."""
        if self.q:
            return lines_with(operation.pk, self.q, LINES)
        return lines_between(operation.pk, *self._range(operation.last_seq))

    def _range(self, last: int) -> tuple[int, int]:
        numbers = self._numbers
        if before := numbers.get("before"):
            return before - LINES, before - 1
        if "after" in numbers:
            return numbers["after"] + 1, numbers["after"] + LINES
        if middle := numbers.get("around"):
            return middle - LINES // 2, middle + LINES // 2 - 1
        return last + 1 - min(TAIL, numbers.get("tail") or LINES), last
