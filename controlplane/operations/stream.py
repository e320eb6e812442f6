"""The live stream of one operation: its lines as they are written, its status when something else moved."""

import json
from typing import Any

from django.http import Http404
from django.template.loader import render_to_string

from controlplane.accounts.access import Actor
from controlplane.live.sources import Row
from controlplane.operations.access import load_operation
from controlplane.operations.keyset import key_in
from controlplane.operations.lines import lines_between
from controlplane.operations.models import Operation
from controlplane.operations.presentation import Status


class OperationSource:
    """`/live/operations/<id>`, for whoever may see the page of the operation."""

    prefix = "operations"

    def authorize(self, viewer: Actor, key: str) -> None:
        """Raise Http404 or PermissionDenied unless this person may see the operation."""
        load_operation(viewer, _number(key))

    def last(self, key: str) -> int:
        """The number of its newest line; 0 when there is no such operation."""
        return Operation.objects.filter(pk=_number(key)).values_list("last_seq", flat=True).first() or 0

    def read(self, key: str, after: int, limit: int) -> list[Row]:
        """The lines after the cursor."""
        lines = lines_between(_number(key), after + 1, after + limit)
        return [Row(line.seq, "line", line.html, line.json) for line in lines]

    def extras(self, key: str) -> list[Row]:
        """The status as it is now, and the end once nothing will follow."""
        operation = Operation.objects.get(pk=_number(key))
        end = [Row(0, "end", "", "{}")] if operation.is_finished else []
        return [_status(operation), *end]


def _status(operation: Operation) -> Row:
    html = render_to_string("operations/_status.html", {"operation": operation, "status": Status(operation)})
    facts: dict[str, Any] = {"id": operation.pk, "state": operation.state}
    return Row(0, "status", html, json.dumps(facts))


def _number(key: str) -> int:
    if number := key_in(key):
        return number
    raise Http404("There is no such operation.")
