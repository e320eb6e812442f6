"""Reading what was stored: the clock claims bodies, each form has its reader, and one bad body stops no other.

1. Claim some bodies with SKIP LOCKED; whatever happens to this clock, they are free again.
2. Read them. What cannot be understood is marked so, with the reason: reading it again would be of no use.
3. Keep what the others say and mark them handled, in the same transaction.
4. If that fails, each body is tried in a transaction of its own; the one whose fault it is comes again later, and
   after some attempts it waits for a person.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from controlplane.live.ring import ring
from incidents.intake import alertmanager, pagerduty, plain
from incidents.intake.keeping import Heard, keep
from incidents.intake.said import NotUnderstood, RawBody, Said, clean
from incidents.models import AlertSource, RawAlert

logger = logging.getLogger(__name__)

AT_ONCE = 2000
BYTES_AT_ONCE = 8 * 2**20
BATCHES_AT_MOST = 20  # in one call; then the clock looks whether it is to stop
ATTEMPTS = 5
KEEP_HANDLED = timedelta(days=14)
KEEP_FAILED = timedelta(days=90)
FORGET_AT_ONCE = 2000

Reader = Callable[[RawBody], Sequence[Said]]
READERS: dict[str, Reader] = {
    AlertSource.Kind.ALERTMANAGER: alertmanager.read,
    AlertSource.Kind.PAGERDUTY: pagerduty.read,
    AlertSource.Kind.PLAIN: plain.read,
}

# A clock that freezes in the middle of a batch gives it back after so long.
PATIENCE = "SET LOCAL idle_in_transaction_session_timeout = '10s'"
CLAIM = """
    SELECT raw.id, octet_length(raw.body) FROM incidents_rawalert AS raw
    WHERE raw.state = 'stored' AND raw.next_at <= statement_timestamp()
    ORDER BY raw.next_at, raw.id LIMIT %s FOR UPDATE SKIP LOCKED
"""
BODIES = """
    SELECT raw.id, raw.body, raw.received_at, source.id, source.kind, source.environment_id
    FROM incidents_rawalert AS raw JOIN incidents_alertsource AS source ON source.id = raw.source_id
    WHERE raw.id = ANY(%s) ORDER BY raw.id
"""

HANDLED = """
    UPDATE incidents_rawalert SET state = 'handled', handled_at = statement_timestamp(), error = '' WHERE id = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """One body that this handler holds."""

    number: int
    body: bytes
    at: datetime
    source_id: int
    kind: str
    environment_id: int | None

    def read(self) -> Sequence[Said]:
        """What it says. Raises NotUnderstood."""
        reader = READERS.get(self.kind)
        if reader is None:
            raise NotUnderstood(f"Nothing reads bodies of the kind {self.kind}.")
        return reader(RawBody(self.number, self.body, self.at))


def handle_stored() -> int:
    """Read what is stored; returns how many bodies. The clock calls it all the time."""
    handled = 0
    for _ in range(BATCHES_AT_MOST):
        numbers = _batch()
        handled += len(numbers)
        if len(numbers) < AT_ONCE:
            break
    return handled


def _batch() -> list[int]:
    numbers: list[int] = []
    try:
        with transaction.atomic():
            numbers = _claim()
            _handle(_bodies(numbers))
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        logger.exception("%d bodies cannot be handled together; each is tried by itself", len(numbers))
        for number in numbers:
            _handle_one(number)
    return numbers


def _claim() -> list[int]:
    """Some numbers, locked: as many as are well read at once."""
    with connection.cursor() as cursor:
        cursor.execute(PATIENCE)
        cursor.execute(CLAIM, [AT_ONCE])
        numbers: list[int] = []
        size = 0
        for number, length in cursor.fetchall():
            if numbers and size + length > BYTES_AT_ONCE:
                break
            numbers.append(number)
            size += length
    return numbers


def _bodies(numbers: list[int]) -> list[Claimed]:
    with connection.cursor() as cursor:
        cursor.execute(BODIES, [numbers])
        return [Claimed(number, bytes(body), *rest) for number, body, *rest in cursor.fetchall()]


def _handle(bodies: list[Claimed]) -> None:
    """Keep what they say, in the caller's transaction, which holds them."""
    heard: dict[int, Heard] = {}
    handled = []
    for one in bodies:
        try:
            said = one.read()
        except NotUnderstood as error:
            _give_up(one.number, str(error))
            continue
        handled.append(one.number)
        heard.setdefault(one.source_id, Heard(one.source_id, one.environment_id)).said.extend(said)
    keep(heard.values())
    if handled:
        with connection.cursor() as cursor:
            cursor.execute(HANDLED, [handled])


def _handle_one(number: int) -> None:
    """One body by itself. Its own fault is written down, and it comes again after a while."""
    waiting = RawAlert.objects.filter(pk=number, state=RawAlert.State.STORED)
    try:
        with transaction.atomic():
            if waiting.select_for_update(skip_locked=True).values_list("pk", flat=True):
                _handle(_bodies([number]))
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        logger.exception("body %d cannot be handled", number)
        with transaction.atomic():
            raw = waiting.defer("body").select_for_update(skip_locked=True).first()
            if raw is None:
                return
            words = f"{type(error).__name__}: {error}"
            if raw.attempts + 1 >= ATTEMPTS:
                _give_up(number, f"Tried {ATTEMPTS} times. {words}")
                return
            again = Now() + timedelta(seconds=2**raw.attempts)
            waiting.update(attempts=F("attempts") + 1, next_at=again, error=clean(words, 2000))


def _give_up(number: int, words: str) -> None:
    """Leave a body to a person, who may have it handled again."""
    RawAlert.objects.filter(pk=number).update(
        state=RawAlert.State.FAILED, handled_at=Now(), attempts=F("attempts") + 1, error=clean(words, 2000)
    )
    transaction.on_commit(lambda: ring("news", "alerts"))


def forget_old() -> int:
    """Delete bodies that were handled long ago, some thousand at a time; returns how many."""
    forgotten = 0
    while True:
        handled = RawAlert.objects.filter(received_at__lt=Now() - KEEP_HANDLED, state=RawAlert.State.HANDLED)
        failed = RawAlert.objects.filter(received_at__lt=Now() - KEEP_FAILED, state=RawAlert.State.FAILED)
        old = list((handled | failed).order_by("received_at").values_list("pk", flat=True)[:FORGET_AT_ONCE])
        RawAlert.objects.filter(pk__in=old).delete()
        forgotten += len(old)
        if len(old) < FORGET_AT_ONCE:
            return forgotten
