"""What happened around an incident, written into its timeline by the clock: operations, configuration, locks.

1. The audit trail holds all of it, numbered in the order of the commits; a cursor says how far it was read.
2. "incident.opened" is in the trail too: there the half hour before the opening is written down, with its own times.
3. Every entry after that goes to the unresolved incidents of its environments, each in a transaction of its own.
4. Entries name the number they come from, and it is looked for with the incident locked: clocks that read the same
   piece write it once. The cursor moves last, so a crash in between repeats what is there already.

What machines asked for and what went well is no news, as on the board: a long incident would be full of backups.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Min, Q

from controlplane.audit.models import Entry
from controlplane.audit.record import Who
from controlplane.operations.access import HEAVY
from controlplane.operations.models import Approval, Operation
from controlplane.operations.presentation import TONES, word_of
from controlplane.operations.states import State
from controlplane.web.templatetags.ui import duration
from controlplane.web.tones import Tone
from incidents import timeline
from incidents.changes import CONFIGURED, LOCKED
from incidents.models import Incident, NotedUpTo
from incidents.timeline import Kind, NewEntry

CURSOR = "operations"
BEFORE = timedelta(minutes=30)
PIECE = 500
# Of the half hour before, and of the incidents that one entry goes to: beyond that, nobody reads them one by one.
BEFORE_AT_MOST = 50
INCIDENTS_AT_MOST = 200

OPENED = "incident.opened"
RUNNING = f"operation.{State.RUNNING}"
ENDED = tuple(f"operation.{state}" for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED))
OPERATIONS = (RUNNING, f"operation.{State.NEEDS_OPERATOR}", *ENDED)
NOTED = (*OPERATIONS, *CONFIGURED, *LOCKED)
CHANGES_SHOWN = 3


@dataclass(frozen=True)
class Line:
    """An entry of the trail as timelines say it."""

    source: Entry
    who: Who
    new: NewEntry


def note_new() -> int:
    """Write down what the trail has since it was read last; returns how many entries it dealt with."""
    cursor, _ = NotedUpTo.objects.get_or_create(name=CURSOR, defaults={"entry": _beginning()})
    head = Entry.objects.aggregate(last=Max("pk"))["last"] or 0
    rows = Entry.objects.filter(pk__gt=cursor.entry, pk__lte=head, action__in=[OPENED, *NOTED])
    piece = list(rows.order_by("pk")[:PIECE])
    lines = {line.source.pk: line for line in _lines(piece)}
    for entry in piece:
        if entry.action == OPENED:
            _look_back(entry)
        elif entry.pk in lines:
            _write(_concerned(entry), [lines[entry.pk]])
    read = piece[-1].pk if len(piece) == PIECE else head
    if read > cursor.entry:
        NotedUpTo.objects.filter(pk=cursor.pk, entry=cursor.entry).update(entry=read)
    return len(piece)


def _beginning() -> int:
    """The first time: from where the oldest incident began that is not over, or from here."""
    oldest = Incident.objects.exclude(state=Incident.State.RESOLVED).aggregate(at=Min("opened_at"))["at"]
    before = Entry.objects.filter(at__lt=oldest) if oldest else Entry.objects.all()
    return before.aggregate(last=Max("pk"))["last"] or 0


def _look_back(opened: Entry) -> None:
    """What happened in the half hour before an incident, and what was under way when it opened."""
    found = re.match(r"incident (\d+):", opened.target)
    incident = Incident.objects.filter(pk=int(found[1])).only("environments").first() if found else None
    if incident is None:
        return
    rows = Entry.objects.filter(
        _here(incident.environments), action__in=NOTED, at__gte=opened.at - BEFORE, pk__lt=opened.pk
    )  # fmt: skip
    entries = list(rows.order_by("-at", "-pk")[:BEFORE_AT_MOST])[::-1]
    ended = {entry.target for entry in entries if entry.action in ENDED}
    _write([incident.pk], _lines(one for one in entries if one.action != RUNNING or one.target not in ended))


def _here(environments: Sequence[str]) -> Q:
    """Of these environments, or of the whole installation; for an incident of the whole installation, everything."""
    return Q(scopes__overlap=environments) | Q(scopes=[]) if environments else Q()


def _concerned(entry: Entry) -> list[int]:
    """The incidents that are not over and that the entry concerns, the worst ones first."""
    rows = Incident.objects.exclude(state=Incident.State.RESOLVED).filter(opened_at__lte=entry.at)
    if entry.scopes:
        rows = rows.filter(Q(environments__overlap=entry.scopes) | Q(environments=[]))
    return list(rows.order_by("severity", "-pk").values_list("pk", flat=True)[:INCIDENTS_AT_MOST])


def _write(incidents: Iterable[int], lines: Sequence[Line]) -> None:
    for number in incidents if lines else ():
        with transaction.atomic():
            incident = timeline.locked(number)
            there = incident.timeline.filter(
                kind__in=[Kind.OPERATION, Kind.CHANGE], at__in=[line.source.at for line in lines],
                data__has_key="audit",
            )  # fmt: skip
            known = {data["audit"] for data in there.values_list("data", flat=True)}
            fresh = [line for line in lines if line.source.pk not in known]
            if fresh and not incident.is_resolved:
                timeline.append_all([(incident, line.who, line.new) for line in fresh])


# --- Words --------------------------------------------------------------------------------------------


def _lines(entries: Iterable[Entry]) -> list[Line]:
    """In two queries, however many."""
    entries = [entry for entry in entries if entry.action in NOTED]
    numbers = {number for entry in entries if (number := _number(entry))}
    operations = Operation.objects.filter(pk__in=numbers).defer(*HEAVY).in_bulk()
    approvals: dict[int, list[str]] = {}
    approved = Approval.objects.filter(operation__in=operations, decision=Approval.Decision.APPROVED)
    for number, name in approved.values_list("operation_id", "person_name"):
        approvals.setdefault(number, []).append(name)
    return [line for entry in entries if (line := _line(entry, operations, approvals))]


def _number(entry: Entry) -> int:
    found = re.fullmatch(r"operation (\d+)", entry.target)
    return int(found[1]) if found else 0


def _line(entry: Entry, operations: Mapping[int, Operation], approvals: Mapping[int, list[str]]) -> Line | None:
    if entry.action in OPERATIONS:
        operation = operations.get(_number(entry))
        return _operation(entry, operation, approvals.get(operation.pk, [])) if operation else None
    if entry.action in LOCKED and entry.actor.startswith("system: incident "):
        return None  # the incident has said it itself
    locked = entry.action in LOCKED
    words = _lock_words(entry) if locked else _configuration_words(entry)
    new = NewEntry(Kind.CHANGE, words, Tone.WAIT if not locked else Tone.IDLE, entry.at, {"audit": entry.pk})
    return Line(entry, Who(entry.actor, entry.actor_id, entry.via), new)


def _operation(entry: Entry, operation: Operation, approved: Sequence[str]) -> Line | None:
    state = State(entry.action.removeprefix("operation."))
    # A machine's operation is news once it goes wrong; its start, which nobody can know that of yet, is none.
    if operation.is_by_machine and state in (State.RUNNING, State.SUCCEEDED, State.CANCELLED):
        return None
    said = f" (approved by {' and '.join(approved)})" if approved else ""
    data: dict[str, Any] = {"operation": operation.pk, "audit": entry.pk}
    new = NewEntry(Kind.OPERATION, _operation_words(entry, operation, state) + said, TONES[state], entry.at, data)
    who = Who(operation.requested_by_name, operation.requested_by_id, f"operation {operation.pk}")
    return Line(entry, who, new)


def _operation_words(entry: Entry, operation: Operation, state: State) -> str:
    began = operation.started_at
    if state == State.RUNNING:
        goes_on = began is not None and entry.at - began > timedelta(seconds=5)
        return f"{operation.title}: {'goes on' if goes_on else 'started'}"
    if state == State.NEEDS_OPERATOR or not operation.is_finished:
        return f"{operation.title}: {state.label}"
    took = f" in {duration(entry.at - began)}" if began else ""
    word = f"{operation.title}: {word_of(operation)}{took}"
    return word if state == State.SUCCEEDED or not operation.outcome else f"{word}. {operation.outcome[:300]}"


def _lock_words(entry: Entry) -> str:
    where = entry.target.removeprefix("environment ")
    if entry.action == "environment.locked":
        return f"{where} is locked" + (f": {entry.reason[:300]}" if entry.reason else "")
    lock = entry.data.get("lock", "")
    return f"The lock on {where} was released" + (f" ({lock[:200]})" if lock else "")


def _configuration_words(entry: Entry) -> str:
    title = CONFIGURED[entry.action].format(entry.target.removeprefix("environment "))
    changes = entry.data.get("changes") or {}
    if not isinstance(changes, Mapping):
        return f"Changed: {title}"
    shown = [f"{key} {_change(pair)}" for key, pair in list(changes.items())[:CHANGES_SHOWN]]
    more = [f"{len(changes) - len(shown)} more"] if len(changes) > len(shown) else []
    return f"Changed: {title}" + (f": {', '.join(shown + more)}" if shown else "")


def _change(pair: Any) -> str:
    if not isinstance(pair, list) or len(pair) != 2:
        return "changed"
    before, after = (str(value)[:60] if value not in (None, "") else "–" for value in pair)
    return f"{before} → {after}"
