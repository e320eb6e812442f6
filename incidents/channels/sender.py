"""Emptying the outbox: what the clock does for each channel. Needs PostgreSQL and the provider, nothing else.

1. Claim what is due, in one short statement: the row is SENDING, with a lease and this sender's name.
2. For a page, hold the incident's lock in shared mode (a session lock: no transaction is open), look again whether
   the row is still ours, look at our own clock, send, let go. An acknowledgement takes the same lock alone, so it
   waits for what is on the wire, and nothing leaves after its commit.
3. Write down what came of it by compare-and-set. Who dies between 2 and 3 leaves a lease that runs out; the next one
   sends again under the same key, which makes a repeat harmless.

A process that was frozen after step 1 finds its claim too old by its own clock, and sends nothing.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from uuid import uuid4

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Coalesce, Now

from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.web.tones import Tone
from incidents import links, timeline
from incidents.channels import CHANNELS
from incidents.channels.base import ChannelError, Outgoing, Receipt
from incidents.channels.recording import redirected
from incidents.models import Channel, Delivery, Incident, Page
from incidents.outbox import SENDING_LOCK
from incidents.timeline import Kind, NewEntry

logger = logging.getLogger(__name__)

CLOCK = SYSTEM("clock")
AT_ONCE = 32
THREADS = 8
LEASE_SECONDS = 15
# From the claim to the first byte: who was frozen for longer must not send, and puts the row back.
FRESH_SECONDS = 5.0
FIRST_WAIT, LONGEST_WAIT = 2.0, 300.0
GIVE_UP_AFTER = timedelta(hours=4)
LOCK_SECONDS = 2  # for which a sender waits behind an acknowledgement

CLAIM = """
    UPDATE incidents_delivery SET state = 'sending', sender = %s, attempts = attempts + 1,
        lease_until = clock_timestamp() + make_interval(secs => %s)
    WHERE id IN (
        SELECT id FROM incidents_delivery
        WHERE channel = %s AND next_at <= clock_timestamp()
            AND (state = 'queued' OR (state = 'sending' AND lease_until < clock_timestamp()))
        ORDER BY next_at LIMIT %s FOR UPDATE SKIP LOCKED
    )
    RETURNING id
"""


@dataclass(frozen=True)
class Claim:
    """One row that is ours to send. at: by our own clock."""

    delivery: Delivery
    sender: str
    at: float


class Withdrawn(Exception):
    """It must not be sent any more: somebody acknowledged, or another sender has it, or we were frozen."""


@cache
def _pool(channel: str) -> ThreadPoolExecutor:
    """Threads are kept: each has a connection to the database of its own."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix=f"send {channel}")


def send_due(channel: str) -> int:
    """Send what is due by this channel; returns how many it tried."""
    configured = Channel.objects.filter(kind=channel, paused=False).first()
    if configured is None:
        return 0
    sender, at = uuid4().hex, time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [sender, LEASE_SECONDS, channel, AT_ONCE])
        claimed = [row[0] for row in cursor.fetchall()]
    rows = list(Delivery.objects.filter(pk__in=claimed).select_related("page").order_by("next_at"))
    claims = [Claim(row, sender, at) for row in rows]
    if len(claims) == 1:
        _send(claims[0], configured.settings)
    elif claims:
        list(_pool(channel).map(lambda claim: _in_thread(claim, configured.settings), claims))
    return len(claims)


def _in_thread(claim: Claim, channel_settings: dict[str, object]) -> None:
    try:
        _send(claim, channel_settings)
    except Exception:
        connections.close_all()
        raise


def _send(claim: Claim, channel_settings: dict[str, object]) -> None:
    delivery = claim.delivery
    channel, message = CHANNELS[delivery.channel], _outgoing(delivery)
    where, address = redirected(delivery.channel, channel_settings, delivery.address)
    try:
        with _still_wanted(claim):
            provider_id = channel.send(replace(message, address=address), where)
            answered = database_time()  # before the lock is let go, and so before any acknowledgement's commit
    except Withdrawn:
        _ours(claim).update(state=Delivery.State.QUEUED, lease_until=None)
    except ChannelError as error:
        _failed(claim, error)
    except (OperationalError, InterfaceError):
        raise  # the database is lost: the lease brings the row back
    except Exception as error:
        logger.exception("%s cannot be sent by %s", delivery.key, delivery.channel)
        _failed(claim, ChannelError(f"it could not be sent: {type(error).__name__}"))
    else:
        _accepted(claim, provider_id, answered, received=channel.receipt == Receipt.ACCEPTANCE)


def _outgoing(delivery: Delivery) -> Outgoing:
    told = delivery.message
    page_id = told.get("page")
    return Outgoing(
        purpose=delivery.purpose,
        address=delivery.address,
        key=delivery.key,
        dedup=f"{settings.SITE_URL}/incidents/{told['incident']}" if told.get("incident") else delivery.key,
        title=told["title"],
        severity=told.get("severity", ""),
        text=told["text"],
        url=told["url"],
        ack_url=links.acknowledge_url(page_id) if page_id else "",
        callback_url=links.callback_url(delivery.channel, delivery.key),
        again=delivery.attempts > 1,
    )


@contextmanager
def _still_wanted(claim: Claim) -> Iterator[None]:
    """For the length of one request: no acknowledgement commits meanwhile. Raises Withdrawn."""
    delivery = claim.delivery
    if delivery.purpose != Delivery.Purpose.PAGE:
        _look_again(claim)
        yield
        return
    lock = SENDING_LOCK + (delivery.incident_id or 0)
    with connection.cursor() as cursor:
        if not _shared(cursor, lock):
            raise Withdrawn  # an acknowledgement is at it; the lease brings the row back if it was not
        try:
            _look_again(claim)
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock_shared(%s)", [lock])


def _shared(cursor: object, lock: int) -> bool:
    deadline = time.monotonic() + LOCK_SECONDS
    waiting = threading.Event()
    while True:
        cursor.execute("SELECT pg_try_advisory_lock_shared(%s)", [lock])  # type: ignore[attr-defined]
        if cursor.fetchone()[0]:  # type: ignore[attr-defined]
            return True
        if time.monotonic() >= deadline:
            return False
        waiting.wait(0.02)


def _look_again(claim: Claim) -> None:
    if not _ours(claim).exists() or time.monotonic() - claim.at > FRESH_SECONDS:
        raise Withdrawn


def _ours(claim: Claim) -> QuerySet[Delivery]:
    return Delivery.objects.filter(pk=claim.delivery.pk, state=Delivery.State.SENDING, sender=claim.sender)


# --- What came of it ----------------------------------------------------------------------------------


def _accepted(claim: Claim, provider_id: str, at: datetime, *, received: bool) -> None:
    """Write it down: the delivery, and for a page the page, the incident and its timeline.

    An acknowledgement may have cancelled the row while it was on the wire; it was taken all the same.
    """
    delivery, page = claim.delivery, claim.delivery.page
    state = Delivery.State.DELIVERED if received else Delivery.State.ACCEPTED
    times = {"accepted_at": at, "delivered_at": at} if received else {"accepted_at": at}
    rows = Delivery.objects.filter(
        pk=delivery.pk, sender=claim.sender, state__in=[Delivery.State.SENDING, Delivery.State.CANCELLED]
    )
    with transaction.atomic():
        incident = timeline.locked(delivery.incident_id) if delivery.incident_id else None
        taken = rows.update(state=state, provider_id=provider_id, error="", next_at=None, lease_until=None, **times)
        if not taken or page is None or incident is None:
            return
        unheard = [Page.State.QUEUED, Page.State.FAILED, Page.State.CANCELLED]
        fields: dict[str, object] = {name: Coalesce(name, Value(moment)) for name, moment in times.items()}
        if received:
            fields["next_way_at"] = None
        Page.objects.filter(pk=page.pk).update(
            state=Case(When(state__in=unheard, then=Value(state)), default=F("state")), **fields
        )
        if incident.notified_at is None:
            Incident.objects.filter(pk=incident.pk).update(notified_at=at)
        took = (at - delivery.queued_at).total_seconds()
        words = f"{page.person_name}: accepted by {delivery.get_channel_display()} after {took:.1f} s"
        data = {"page": page.pk, "channel": delivery.channel}
        timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, words, Tone.OK, at, data))


def _failed(claim: Claim, error: ChannelError) -> None:
    """Try again later, or give up and have the next way tried at once."""
    delivery = claim.delivery
    words = str(error)[:500]
    hopeless = error.permanent or database_time() - delivery.queued_at > GIVE_UP_AFTER
    wait = max(error.retry_after, min(FIRST_WAIT * 2 ** (delivery.attempts - 1), LONGEST_WAIT))
    wait *= random.uniform(0.8, 1.2)  # noqa: S311 (many rows fail at once and need not come back at once)
    with transaction.atomic():
        incident = timeline.locked(delivery.incident_id) if delivery.incident_id else None
        rows = _ours(claim)
        if not rows.update(
            state=Delivery.State.FAILED if hopeless else Delivery.State.QUEUED,
            error=words,
            permanent=error.permanent,
            next_at=None if hopeless else Now() + timedelta(seconds=wait),
            lease_until=None,
        ):
            return
        page = delivery.page
        if incident is None or page is None or (not hopeless and delivery.attempts > 1):
            return
        if hopeless:
            Page.objects.filter(pk=page.pk, way=_way_of(delivery)).update(next_way_at=Now())
        then = "giving up" if hopeless else f"trying again in {wait:.0f} s"
        text = f"{page.person_name}: {delivery.get_channel_display()} failed, {words}; {then}"
        data = {"page": page.pk, "channel": delivery.channel, "error": words}
        timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, text, Tone.BAD if hopeless else Tone.WAIT, data=data))


def _way_of(delivery: Delivery) -> int:
    """Which way of its page it tries: the last part of its key (`outbox.try_way`)."""
    return int(delivery.key.rpartition("-")[2])
