"""Emptying the outbox: what the clock does for each channel. Needs PostgreSQL and the provider, nothing else.

1. Claim what is due, in one short statement: the row is SENDING, with a lease and this sender's name.
2. For pages, take the incidents' locks in shared mode (session locks: no transaction is open while anything is on the
   wire), and look again which rows are still ours. An acknowledgement takes the same lock alone, so it waits for what
   is on the wire, and nothing leaves after its commit.
3. Threads make the requests and do nothing else, so that a slow one holds up no other. Each looks at the clock first,
   and again right before each byte leaves: whoever was frozen since step 2 sends nothing, because nobody waits for
   that long.
4. What came of them is written down by compare-and-set, as many as came back together, and then the locks are let go.
   Who dies before leaves leases that run out; the next one sends again under the same key, which does no harm.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connection

from incidents import links
from incidents.channels import CHANNELS
from incidents.channels.base import ChannelError, Outgoing
from incidents.channels.outcomes import Claim, Outcome, put_back, settle
from incidents.channels.recording import redirected
from incidents.models import Channel, Delivery
from incidents.outbox import QUIET_SECONDS, SENDING_LOCK

logger = logging.getLogger(__name__)

# Requests of one channel and process at the same time.
AT_ONCE = 16
# A turn ends after so many, so that a changed or paused channel is noticed.
IN_A_TURN = 400
# For others that come back at about the same time as the first: they are written down together.
TOGETHER_SECONDS = 0.02
LEASE_SECONDS = 15
# From the lock to the first byte. With base.SECONDS it is no more than an acknowledgement waits (outbox.QUIET_SECONDS).
FRESH_SECONDS = 1.0

CLAIM = """
    UPDATE incidents_delivery SET state = 'sending', sender = %s, attempts = attempts + 1,
        lease_until = clock_timestamp() + make_interval(secs => %s)
    WHERE id IN (
        SELECT id FROM incidents_delivery
        WHERE channel = %s AND next_at <= clock_timestamp()
            AND (state = 'queued' OR (state = 'sending' AND lease_until < clock_timestamp()))
        ORDER BY next_at LIMIT %s FOR UPDATE SKIP LOCKED
    )
    RETURNING id, CASE WHEN purpose = 'page' THEN incident_id END
"""
LOCK = """
    SELECT id, pg_try_advisory_lock_shared(%s + incident_id)
    FROM unnest(%s::bigint[], %s::bigint[]) AS claimed (id, incident_id)
"""
UNLOCK = "SELECT pg_advisory_unlock_shared(%s + incident_id) FROM unnest(%s::bigint[]) AS sent (incident_id)"


def send_due(channel: str) -> int:
    """Send what is due by this channel; returns how many it tried."""
    configured = Channel.objects.filter(kind=channel, paused=False).first()
    if configured is None:
        return 0
    turn = Turn(channel, configured.settings)
    try:
        while turn.go_on():
            pass
    except BaseException:
        turn.give_up()
        raise
    return turn.tried


@cache
def _pool(channel: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix=f"wire {channel}")


class Turn:
    """One turn of one channel: the requests that are on the wire, and what is known of them."""

    def __init__(self, channel: str, configured: Mapping[str, Any]) -> None:
        self.channel = channel
        self.configured = configured
        self.sender = uuid4().hex
        self.tried = 0
        self.flying: dict[Future[Outcome], Claim] = {}

    def go_on(self) -> bool:
        """Send what there is room for, and write down what has come back; False when there is no more to do."""
        if self.tried < IN_A_TURN and len(self.flying) <= AT_ONCE // 2:
            self._send_some()
        if not self.flying:
            return False
        wait(self.flying, return_when=FIRST_COMPLETED)
        back = wait(self.flying, timeout=TOGETHER_SECONDS).done
        settle([one.result() for one in back])
        self._let_go([self.flying[one] for one in back])
        for one in back:
            del self.flying[one]
        return True

    def give_up(self) -> None:
        """Something is wrong with the database. Locks go with the connection, once nothing is on the wire any more."""
        wait(self.flying)
        connection.close()

    def _send_some(self) -> None:
        since = time.monotonic()
        for claim in self._claims(AT_ONCE - len(self.flying)):
            where, address = redirected(self.channel, self.configured, claim.delivery.address)
            message = replace(_outgoing(claim.delivery), address=address)
            self.tried += 1
            self.flying[_pool(self.channel).submit(_sent, claim, message, where, since)] = claim

    def _claims(self, room: int) -> list[Claim]:
        """Rows that are ours, with their locks."""
        with connection.cursor() as cursor:
            cursor.execute(CLAIM, [self.sender, LEASE_SECONDS, self.channel, room])
            incidents: dict[int, int | None] = dict(cursor.fetchall())
            pages = {row: incident for row, incident in incidents.items() if incident is not None}
            if pages:
                cursor.execute(LOCK, [SENDING_LOCK, list(pages), list(pages.values())])
                refused = [row for row, locked in cursor.fetchall() if not locked]
                put_back([Claim(Delivery(pk=row), self.sender) for row in refused])
                incidents = {row: incident for row, incident in incidents.items() if row not in refused}
        if not incidents:
            return []
        # A statement of its own: it sees what was committed before we had the locks.
        ours = Delivery.objects.filter(pk__in=incidents, state=Delivery.State.SENDING, sender=self.sender)
        claims = [Claim(row, self.sender, incidents[row.pk])
                  for row in ours.select_related("page").order_by("next_at", "pk")]  # fmt: skip
        lost = incidents.keys() - {claim.delivery.pk for claim in claims}
        self._let_go([Claim(Delivery(pk=row), self.sender, incidents[row]) for row in lost])
        return claims

    def _let_go(self, claims: Sequence[Claim]) -> None:
        locked = [claim.locked for claim in claims if claim.locked is not None]
        if locked:
            with connection.cursor() as cursor:
                cursor.execute(UNLOCK, [SENDING_LOCK, locked])


def _sent(
    claim: Claim, message: Outgoing, where: Mapping[str, Any], since: float, now: Callable[[], float] = time.monotonic
) -> Outcome:
    """One request, in a thread that has nothing to do with the database. since, now: by the clock of this machine."""
    if now() - since > FRESH_SECONDS:
        return Outcome(claim, withdrawn=True)
    timely = replace(message, until=since + QUIET_SECONDS)
    try:
        return Outcome(claim, provider_id=CHANNELS[claim.delivery.channel].send(timely, where))
    except ChannelError as error:
        return Outcome(claim, error=error)
    except Exception as error:
        logger.exception("%s cannot be sent by %s", claim.delivery.key, claim.delivery.channel)
        return Outcome(claim, error=ChannelError(f"it could not be sent: {type(error).__name__}"))


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
