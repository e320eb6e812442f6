"""What is to be sent, as rows in the transaction that decided it. `incidents/channels/` carries them out.

Each effect has one key, made of what it is about: written twice it is the same row, and a provider that is told
twice knows it by the key.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from django.urls import reverse
from psycopg.errors import LockNotAvailable

from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from incidents.models import Channel, Delivery, Incident, Page

logger = logging.getLogger(__name__)

# The next channel is tried when there is no receipt after so long.
RECEIPT_SECONDS = 60
# Any number; with an incident's number behind it, the lock between its senders and its acknowledgement.
SENDING_LOCK = 0x1C1D << 32
# A sender gives up a provider sooner than this, so an acknowledgement never waits longer.
QUIET_SECONDS = 6


def message_of(incident: Incident, words: str, *, page: Page | None = None) -> dict[str, Any]:
    """What every channel makes its message of. No secret is in it: links are signed when they are sent."""
    return {
        "incident": incident.pk,
        "title": f"{incident.severity} · {incident.title}",
        "severity": incident.severity,
        "text": words,
        "environments": incident.environments,
        "url": f"{incidents_url()}{incident.pk}",
        "page": page.pk if page else None,
    }


def incidents_url() -> str:
    """What the address of every incident begins with. The first call takes long, as it reads every address there is."""
    return f"{settings.SITE_URL}{_incidents_path()}"


@cache
def _incidents_path() -> str:
    return reverse("incident", args=[0]).removesuffix("0")


def queue(
    incident: Incident | None,
    purpose: Delivery.Purpose,
    channel: str,
    key: str,
    message: Mapping[str, Any],
    *,
    page: Page | None = None,
    address: str = "",
    at: datetime | None = None,
) -> Delivery:
    """Put one effect into the outbox, in the caller's transaction; the same key again changes nothing."""
    delivery, _ = Delivery.objects.get_or_create(
        key=key,
        defaults={
            "incident": incident,
            "page": page,
            "purpose": purpose,
            "channel": channel,
            "address": address,
            "message": dict(message),
            "next_at": at or Now(),
        },
    )
    transaction.on_commit(lambda: ring("news", "incidents"))
    return delivery


def first_tries(pages: Sequence[tuple[Page, Incident, str]]) -> None:
    """Save new pages and queue the first way of each, in the caller's transaction: two statements, however many."""
    following = database_time() + timedelta(seconds=RECEIPT_SECONDS)
    for page, _, _ in pages:
        page.next_way_at = following if len(page.ways) > 1 else None
    Page.objects.bulk_create(page for page, _, _ in pages)
    Delivery.objects.bulk_create(
        Delivery(
            incident=incident,
            page=page,
            purpose=Delivery.Purpose.PAGE,
            channel=page.ways[0]["channel"],
            address=page.ways[0]["address"],
            key=_key(page, 0),
            message=message_of(incident, words, page=page),
        )
        for page, incident, words in pages
    )
    transaction.on_commit(lambda: ring("news", "incidents"))


def try_way(page: Page, incident: Incident, number: int, words: str) -> Delivery:
    """Try to reach the person of a page by its way of this number."""
    way = page.ways[number]
    more = number + 1 < len(page.ways)
    page.way, page.next_way_at = number, database_time() + timedelta(seconds=RECEIPT_SECONDS) if more else None
    page.save(update_fields=["way", "next_way_at"])
    message = message_of(incident, words, page=page)
    return queue(incident, Delivery.Purpose.PAGE, way["channel"], _key(page, number), message, page=page,
                 address=way["address"])  # fmt: skip


def _key(page: Page, way: int) -> str:
    return f"page-{page.pk}-{way}"


def way_of(delivery: Delivery) -> int:
    """Which way of its page a delivery tries."""
    return int(delivery.key.rpartition("-")[2])


def notice(incident: Incident, channel: str, key: str, words: str) -> None:
    """Tell a channel that many people read, if it is configured."""
    if Channel.objects.filter(kind=channel, paused=False).exists():
        queue(incident, Delivery.Purpose.NOTICE, channel, f"incident-{incident.pk}-{key}-{channel}",
              message_of(incident, words))  # fmt: skip


def silence_senders(incident_id: int) -> None:
    """Wait until no page of this incident is on the wire; none will leave before the transaction ends.

    Senders hold this lock in shared mode for one request each, of QUIET_SECONDS at most. Call it first in the
    transaction. A sender that is frozen for longer looks at its own clock before it sends (`channels/sender.py`).
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{QUIET_SECONDS * 1000 + 500}"])
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SENDING_LOCK + incident_id])
            cursor.execute("SELECT set_config('lock_timeout', '0', true)")
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        logger.warning("a sender of incident %d is frozen; going on without it", incident_id)
