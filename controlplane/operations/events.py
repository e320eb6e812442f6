"""The one sequence of an operation: lines and state changes, numbered without gaps, written in order.

Two ways in: `append` inside a caller's transaction (state changes, which must stand or fall with their
event), and `LogWriter` for the lease holder's lines, which batches them with COPY.
"""

import re
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import connection, transaction

from controlplane.live.ring import ring
from controlplane.operations.errors import LeaseLost
from controlplane.operations.masking import Masker
from controlplane.operations.models import Event, Step
from controlplane.operations.states import EXECUTING, State, StepState

# From this many rows on, COPY is quicker than INSERT.
COPY_FROM = 8
COLUMNS = "(operation_id, seq, at, kind, step, text)"
LINE_BREAK = re.compile(r"\r\n|\r|\n")
LAST_BREAK = re.compile(r"(\r\n|\r|\n)\Z")
SPECIAL = "\x00\\\t\n\r"


class NewEvent(NamedTuple):
    """An event that has no number yet. age: seconds since it happened, by the monotonic clock of its process."""

    kind: str
    text: str
    step: str = ""
    age: float = 0.0


# What a NewEvent is; plain tuples of the same are quicker to make, by the thousand.
EventValues = tuple[str, str, str, float]


def append(operation_id: int, events: Sequence[EventValues], *, fence: int | None = None) -> int:
    """Add events in the caller's transaction and ring after its commit; returns the last number.

    With a fence, the operation must still be executing under it: otherwise LeaseLost, and nothing is written.
    The numbers are given out under the operation's row lock, so their order is the order of the commits.
    """
    with connection.cursor() as cursor:
        sql = "UPDATE operations_operation SET last_seq = last_seq + %s WHERE id = %s"
        values: list[Any] = [len(events), operation_id]
        if fence is not None:
            sql += " AND fence = %s AND state = ANY(%s)"
            values += [fence, sorted(EXECUTING)]
        cursor.execute(sql + " RETURNING last_seq, extract(epoch from clock_timestamp())", values)
        row = cursor.fetchone()
        if row is None:
            raise LeaseLost(f"operation {operation_id}: fence {fence} is not the current one")
        last, now = int(row[0]), float(row[1])
        _insert(cursor, operation_id, last - len(events), now, events)
    # Without a number: something else than a line is new.
    transaction.on_commit(lambda: ring(f"operations/{operation_id}", str(last) if events else ""))
    return last


WRITE_STEP = """
WITH op AS (
    UPDATE operations_operation SET last_seq = last_seq + 1
    WHERE id = %(operation)s AND fence = %(fence)s AND state = ANY(%(states)s)
        AND NOT (%(held)s AND EXISTS (SELECT FROM operations_halt WHERE released_at IS NULL))
    RETURNING id, last_seq
), step AS (
    UPDATE operations_step SET
        state = %(state)s, error = %(error)s,
        attempt = attempt + CASE WHEN %(intent)s THEN 1 ELSE 0 END,
        started_at = CASE WHEN %(intent)s THEN COALESCE(started_at, now()) ELSE started_at END,
        deadline = CASE WHEN %(intent)s THEN now() + make_interval(secs => %(timeout)s) ELSE deadline END,
        finished_at = CASE WHEN %(ended)s THEN now() END
    FROM op WHERE operations_step.id = %(step)s RETURNING operations_step.attempt, operations_step.deadline
), event AS (
    INSERT INTO operations_event (operation_id, seq, at, kind, step, text)
    SELECT id, last_seq, now(), %(kind)s, %(key)s, %(text)s FROM op
)
SELECT op.last_seq, step.attempt, step.deadline FROM op, step
"""


def write_step(
    step: Step, state: StepState, event: NewEvent, *, fence: int, error: str = "", timeout: float | None = None,
    yields: bool = False, goes_on: bool = False,
) -> bool:  # fmt: skip
    """Change a step and tell of it, in one statement: what the engine writes twice a step.

    timeout: seconds, given with an intent alone; it counts the attempt and sets the stored deadline. yields: it is
    written only while nobody has asked to stop the operation, or the world, unless it `goes_on` in one that is stopped;
    returns whether it was. Otherwise raises LeaseLost, and writes nothing, when the operation is not executing under
    the fence any more.
    """
    values: dict[str, Any] = {
        "operation": step.operation_id,
        "fence": fence,
        "states": [State.RUNNING] if yields else sorted(EXECUTING),
        "held": yields and not goes_on,
        "state": state,
        "error": storable(error),
        "intent": timeout is not None,
        "timeout": timeout or 0.0,
        "ended": state not in (StepState.PENDING, StepState.RUNNING),
        "step": step.pk,
        "kind": event.kind,
        "key": event.step,
        "text": storable(event.text),
    }
    with connection.cursor() as cursor:
        cursor.execute(WRITE_STEP, values)
        row = cursor.fetchone()
    if row is None:
        if yields:
            return False
        raise LeaseLost(f"operation {step.operation_id}: fence {fence} is not the current one")
    step.state, step.error, step.attempt, step.deadline = state, error, row[1], row[2]
    ring(f"operations/{step.operation_id}", str(row[0]))
    return True


def storable(text: str) -> str:
    """Text as PostgreSQL can keep it: a NUL is shown, not dropped, and half of a surrogate pair is a question mark."""
    if text.isascii() and "\x00" not in text:  # nearly all of it, and both are quick to see
        return text
    return text.replace("\x00", "␀").encode(errors="replace").decode()


def _insert(cursor: Any, operation_id: int, before: int, now: float, events: Sequence[EventValues]) -> None:
    if len(events) < COPY_FROM:
        for seq, (kind, text, step, age) in enumerate(events, start=before + 1):
            cursor.execute(
                f"INSERT INTO operations_event {COLUMNS} VALUES (%s, %s, to_timestamp(%s), %s, %s, %s)",  # noqa: S608
                [operation_id, seq, now - age, kind, step, storable(text)],
            )
        return
    # Hardly any line needs escaping, and to ask all of them at once is quick.
    together = "".join([event[1] for event in events])
    special = any(character in together for character in SPECIAL)
    rows: list[str] = []
    told, stamp = -1, ""
    for seq, (kind, text, step, age) in enumerate(events, start=before + 1):
        if (moment := int((now - age) * 1000)) != told:  # many lines are said in one millisecond
            told, stamp = moment, _timestamp(moment)
        rows.append(f"{operation_id}\t{seq}\t{stamp}\t{kind}\t{step}\t{_for_copy(text) if special else text}\n")
    with cursor.copy(f"COPY operations_event {COLUMNS} FROM STDIN") as copy:
        copy.write("".join(rows).encode(errors="replace"))


def _for_copy(text: str) -> str:
    """Text as PostgreSQL's COPY format wants it."""
    return storable(text).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _timestamp(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest:03d}+00"


class LogWriter:
    """The lease holder's log: lines are kept for a moment, masked, and written in batches under its fence.

    `flush` is called by the lease's thread every 100 ms, and by the engine before every effect and every
    state change: what was said before an effect is durable before the effect.
    """

    FULL = 500

    def __init__(self, operation_id: int, fence: int, secrets: Iterable[str]) -> None:
        self.operation_id = operation_id
        self.fence = fence
        self._secrets = list(secrets)
        self._masker = Masker(self._secrets)
        self._stream = self._masker.stream()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._buffer: list[tuple[str, str, str, float]] = []

    def mask(self, secrets: Iterable[str]) -> None:
        """Mask these values too, from the next line on."""
        secrets = set(secrets) - set(self._secrets)
        if not secrets:
            return
        self.flush()
        with self._lock:
            self._secrets = sorted({*self._secrets, *secrets})
            self._masker = Masker(self._secrets)
            self._stream = self._masker.stream()

    def masked(self, text: str) -> str:
        """The text as it may be shown."""
        return self._masker.mask(text)

    def line(self, text: str, *, kind: str = Event.Kind.LINE, step: str = "") -> None:
        """Say something. A text of several lines becomes as many events."""
        now = time.monotonic()
        # At line breaks only, as the masker knows them: a value must not be cut where it would not be put together.
        parts = LINE_BREAK.split(LAST_BREAK.sub("", text)) if "\n" in text or "\r" in text else [text]
        with self._lock:
            for part in parts:
                self._buffer.append((kind, part, step, now))
            full = len(self._buffer) >= self.FULL
        if full:
            self.flush()

    def flush(self) -> None:
        """Write what was said so far. Raises LeaseLost when this worker is no longer the one."""
        with self._flushing:
            with self._lock:
                batch, self._buffer = self._buffer, []
                if not batch:
                    return
                texts = self._stream.feed_many([text for _, text, _, _ in batch]) + self._stream.flush()
            now = time.monotonic()
            events = [
                (kind, masked, step, now - said) for (kind, _, step, said), masked in zip(batch, texts, strict=True)
            ]
            with transaction.atomic():
                append(self.operation_id, events, fence=self.fence)
