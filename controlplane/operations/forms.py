"""What people send to the pages of an operation."""

from collections.abc import Mapping

from django import forms
from django.db.models import Q

from controlplane.operations.errors import Invalid
from controlplane.operations.keyset import key_in
from controlplane.operations.lines import Line, lines_of
from controlplane.operations.states import Answer

LINES = 500
TAIL = 5000


class AnswerForm(forms.Form):
    """What a person says of a step whose end nobody knows."""

    step = forms.CharField(max_length=120)
    answer = forms.ChoiceField(choices=Answer.choices)
    comment = forms.CharField(max_length=2000, required=False)

    def said(self) -> tuple[str, Answer, str]:
        """Step, answer and comment. Raises Invalid."""
        if not self.is_valid():
            raise Invalid("Choose one of the four answers.")
        data = self.cleaned_data
        return data["step"], Answer(data["answer"]), data["comment"]


class LogQuery:
    """Which part of a log: `before`, `after` or `around` a number, its `tail`, or the lines with `q` in them."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.q = given.get("q", "").strip()[:200]
        self._numbers = {name: key_in(given[name]) for name in ("before", "after", "around", "tail") if name in given}

    def lines(self, operation_id: int) -> list[Line]:
        """The lines, in order, at most some hundred; the end of the log when nothing is asked for."""
        numbers = self._numbers
        if self.q:
            return lines_of(operation_id, Q(text__icontains=self.q), limit=LINES)
        if numbers.get("before"):
            return lines_of(operation_id, Q(seq__lt=numbers["before"]), limit=LINES, newest=True)
        if "after" in numbers:
            return lines_of(operation_id, Q(seq__gt=numbers["after"]), limit=LINES)
        if numbers.get("around"):
            middle = numbers["around"]
            above = lines_of(operation_id, Q(seq__lt=middle), limit=LINES // 2, newest=True)
            return above + lines_of(operation_id, Q(seq__gte=middle), limit=LINES // 2)
        return lines_of(operation_id, limit=min(TAIL, numbers.get("tail") or LINES), newest=True)
