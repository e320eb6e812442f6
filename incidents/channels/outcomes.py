"""What came of requests to providers, written down: many at once, and each only if its row is still ours."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Coalesce

from controlplane.audit.record import SYSTEM, Who
from controlplane.clock.database import database_time
from controlplane.web.tones import Tone
from incidents import timeline
from incidents.channels import CHANNELS
from incidents.channels.base import ChannelError, Receipt
from incidents.models import Delivery, Incident, Page
from incidents.outbox import way_of
from incidents.timeline import Kind, NewEntry

logger = logging.getLogger(__name__)

CLOCK = SYSTEM("clock")
FIRST_WAIT, LONGEST_WAIT = 2.0, 300.0
GIVE_UP_AFTER = timedelta(hours=4)  # where the row does not say it
# Until a row is looked at again that somebody acknowledges just now.
PUT_BACK_SECONDS = 0.2

# An acknowledgement that went on without a frozen sender has cancelled the row, or it waits for another try because no
# answer came, while the provider says by another way that it has it: it was taken all the same.
ACCEPT = """
    UPDATE incidents_delivery delivery SET state = %s, provider_id = taken.provider_id, accepted_at = %s,
        delivered_at = %s, error = '', next_at = NULL, lease_until = NULL
    FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS taken (id, sender, provider_id)
    WHERE delivery.id = taken.id AND delivery.sender = taken.sender
        AND delivery.state IN ('sending', 'queued', 'cancelled')
    RETURNING delivery.id
"""
FAIL = """
    UPDATE incidents_delivery delivery SET state = CASE WHEN failed.wait < 0 THEN 'failed' ELSE 'queued' END,
        error = failed.error, permanent = failed.permanent, lease_until = NULL,
        next_at = CASE WHEN failed.wait < 0 THEN NULL ELSE clock_timestamp() + make_interval(secs => failed.wait) END
    FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::boolean[], %s::float[])
        AS failed (id, sender, error, permanent, wait)
    WHERE delivery.id = failed.id AND delivery.sender = failed.sender AND delivery.state = 'sending'
    RETURNING delivery.id
"""
PUT_BACK = """
    UPDATE incidents_delivery delivery SET state = 'queued', lease_until = NULL, attempts = greatest(attempts - 1, 0),
        next_at = clock_timestamp() + make_interval(secs => %s)
    FROM unnest(%s::bigint[], %s::text[]) AS unsent (id, sender)
    WHERE delivery.id = unsent.id AND delivery.sender = unsent.sender AND delivery.state = 'sending'
"""


@dataclass(frozen=True)
class Claim:
    """A row that a sender may send. locked: the incident whose lock it holds for it; None for none."""

    delivery: Delivery
    sender: str
    locked: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it: the provider's name for it, or an error. withdrawn: it was not sent at all."""

    claim: Claim
    provider_id: str = ""
    error: ChannelError | None = None
    withdrawn: bool = False


def put_back(claims: Sequence[Claim]) -> None:
    """They were not sent, and are due again in a moment."""
    if claims:
        with connection.cursor() as cursor:
            rows = [claim.delivery.pk for claim in claims]
            cursor.execute(PUT_BACK, [PUT_BACK_SECONDS, rows, [claim.sender for claim in claims]])


def settle(outcomes: Sequence[Outcome]) -> None:
    """All of them in one transaction; where that fails each in its own, so that one does not hold up the others."""
    try:
        _settle(outcomes)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(outcomes) == 1:
            logger.exception("what came of %s cannot be written down", outcomes[0].claim.delivery.key)
            return
        for one in outcomes:
            settle([one])


def _settle(outcomes: Sequence[Outcome]) -> None:
    put_back([one.claim for one in outcomes if one.withdrawn])
    failed = [(one.claim, one.error) for one in outcomes if one.error is not None]
    taken = [one for one in outcomes if one.error is None and not one.withdrawn]
    if not failed and not taken:
        return
    with transaction.atomic():
        # In the order of their numbers, as everybody who locks several.
        wanted = {page.incident_id for one in outcomes if (page := one.claim.delivery.page) is not None}
        rows = Incident.objects.defer("search", "policy").select_for_update().filter(pk__in=wanted)
        incidents = {one.pk: one for one in rows.order_by("pk")}
        now = database_time()
        lines = []
        for state, some in _by_state(taken).items():
            lines += _accepted(some, state, incidents, now)
        lines += _failed(failed, incidents, now)
        timeline.append_all(lines)


Lines = list[tuple[Incident, Who, NewEntry]]


def _by_state(taken: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Where nothing better than the acceptance ever comes, it counts as the receipt."""
    found: dict[str, list[Outcome]] = {}
    for one in taken:
        is_receipt = CHANNELS[one.claim.delivery.channel].receipt == Receipt.ACCEPTANCE
        found.setdefault(Delivery.State.DELIVERED if is_receipt else Delivery.State.ACCEPTED, []).append(one)
    return found


def _accepted(taken: Sequence[Outcome], state: str, incidents: dict[int, Incident], now: datetime) -> Lines:
    """The deliveries, their pages and incidents; returns what the timelines say."""
    received = state == Delivery.State.DELIVERED
    with connection.cursor() as cursor:
        cursor.execute(
            ACCEPT,
            [state, now, now if received else None, [one.claim.delivery.pk for one in taken],
             [one.claim.sender for one in taken], [one.provider_id for one in taken]],
        )  # fmt: skip
        written = {row[0] for row in cursor.fetchall()}
    ours = [one.claim.delivery for one in taken if one.claim.delivery.pk in written]
    pages = [delivery.page for delivery in ours if delivery.page is not None]
    if not pages:
        return []
    unheard = [Page.State.QUEUED, Page.State.FAILED, Page.State.CANCELLED, *([Page.State.ACCEPTED] if received else [])]
    fields: dict[str, object] = {"accepted_at": Coalesce("accepted_at", Value(now))}
    if received:
        fields |= {"delivered_at": Coalesce("delivered_at", Value(now)), "next_way_at": None}
    Page.objects.filter(pk__in=[page.pk for page in pages]).update(
        state=Case(When(state__in=unheard, then=Value(state)), default=F("state")), **fields
    )
    told = [page.incident_id for page in pages]
    Incident.objects.filter(pk__in=told, notified_at=None).update(notified_at=now)
    return [_line(delivery, incidents, now) for delivery in ours if delivery.page is not None]


def _line(delivery: Delivery, incidents: dict[int, Incident], now: datetime) -> tuple[Incident, Who, NewEntry]:
    assert delivery.page is not None
    took = (now - delivery.queued_at).total_seconds()
    words = f"{delivery.page.person_name}: accepted by {delivery.get_channel_display()} after {took:.1f} s"
    data = {"page": delivery.page.pk, "channel": delivery.channel}
    return incidents[delivery.page.incident_id], CLOCK, NewEntry(Kind.PAGE, words, Tone.OK, now, data)


def _failed(failed: Sequence[tuple[Claim, ChannelError]], incidents: dict[int, Incident], now: datetime) -> Lines:
    """Try again later, or give up and have the next way tried at once."""
    if not failed:
        return []
    waits = [_wait(claim.delivery, error, now) for claim, error in failed]
    with connection.cursor() as cursor:
        cursor.execute(
            FAIL,
            [[claim.delivery.pk for claim, _ in failed], [claim.sender for claim, _ in failed],
             [str(error)[:500] for _, error in failed], [error.permanent for _, error in failed], waits],
        )  # fmt: skip
        written = {row[0] for row in cursor.fetchall()}
    lines: Lines = []
    for (claim, error), wait in zip(failed, waits, strict=True):
        delivery, page, hopeless = claim.delivery, claim.delivery.page, wait < 0
        if delivery.pk not in written or page is None or (not hopeless and delivery.attempts > 1):
            continue
        if hopeless:
            Page.objects.filter(pk=page.pk, way=way_of(delivery)).update(next_way_at=now)
        then = "giving up" if hopeless else f"trying again in {wait:.0f} s"
        text = f"{page.person_name}: {delivery.get_channel_display()} failed, {error}; {then}"
        data = {"page": page.pk, "channel": delivery.channel, "error": str(error)}
        tone = Tone.BAD if hopeless else Tone.WAIT
        lines.append((incidents[page.incident_id], CLOCK, NewEntry(Kind.PAGE, text, tone, now, data)))
    return lines


def _wait(delivery: Delivery, error: ChannelError, now: datetime) -> float:
    """Seconds until the next try; -1 for never again."""
    give_up_at = delivery.give_up_at or delivery.queued_at + GIVE_UP_AFTER
    if error.permanent or now > give_up_at:
        return -1.0
    wait: float = max(error.retry_after, min(FIRST_WAIT * 2 ** (delivery.attempts - 1), LONGEST_WAIT))
    return wait * random.uniform(1.0, 1.3)  # noqa: S311 (many rows fail at once and need not come back at once)
