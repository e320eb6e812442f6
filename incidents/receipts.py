"""What providers tell us afterwards: delivered, failed, acknowledged. Told twice it is the same as once."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Coalesce, Now

from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM, Who
from controlplane.operations.errors import Conflict
from controlplane.web.tones import Tone
from incidents import lifecycle, timeline
from incidents.channels.base import ChannelError, secret_of
from incidents.channels.outcomes import Claim, Outcome, settle
from incidents.models import Channel, Delivery, Incident, Page
from incidents.outbox import way_of
from incidents.timeline import Kind, NewEntry

# Twilio's words for messages and calls that it has, and for their ends.
TAKEN = frozenset({"accepted", "queued", "initiated", "ringing", "sending", "sent"})
GOOD = frozenset({"delivered", "read", "completed", "in-progress"})
BAD = frozenset({"failed", "undelivered", "busy", "no-answer", "canceled"})
ACKNOWLEDGE_DIGIT = "1"


class Forged(Exception):
    """The signature is missing or wrong, or the channel is not configured."""


# --- Who says so --------------------------------------------------------------------------------------


def check_twilio(channel: str, url: str, form: Mapping[str, str], signature: str) -> None:
    """Twilio signs the whole address and the sorted fields with the account's token. Raises Forged."""
    signed = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    wanted = base64.b64encode(hmac.new(_secret(channel, "token"), signed.encode(), hashlib.sha1).digest()).decode()
    if not hmac.compare_digest(wanted.encode(), signature.encode(errors="replace")):
        raise Forged


def check_pagerduty(body: bytes, signatures: str) -> None:
    """One of several `v1=HEX`, each the HMAC-SHA256 of the body. Raises Forged."""
    wanted = "v1=" + hmac.new(_secret("pagerduty", "webhook_secret"), body, hashlib.sha256).hexdigest()
    given = [one.strip() for one in signatures.split(",")]
    if not any(hmac.compare_digest(wanted.encode(), one.encode(errors="replace")) for one in given):
        raise Forged


def check_webhook(body: bytes, signature: str) -> None:
    """The same secret that signs what we send signs what comes back. Raises Forged."""
    wanted = "sha256=" + hmac.new(_secret("webhook", "secret"), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(wanted.encode(), signature.encode(errors="replace")):
        raise Forged


def _secret(channel: str, name: str) -> bytes:
    found = Channel.objects.filter(kind=channel).first()
    if found is None or not found.settings.get(name):
        raise Forged
    try:
        return secret_of(found.settings, name).encode()
    except ChannelError as error:
        raise Forged from error


# --- What it means ------------------------------------------------------------------------------------


def from_twilio(channel: str, key: str, form: Mapping[str, str]) -> bool:
    """A status of a message or a call, or a digit that was pressed; whether it acknowledged the incident."""
    delivery = _delivery(channel, key)
    if delivery is None:
        return False
    if form.get("Digits") == ACKNOWLEDGE_DIGIT:
        return acknowledge(delivery, "by telephone")
    status = form.get("MessageStatus") or form.get("SmsStatus") or form.get("CallStatus") or ""
    if status in TAKEN:
        # Also the answer to a request that we gave up waiting for: it need not be sent again.
        sid = form.get("CallSid") or form.get("MessageSid") or ""
        settle([Outcome(Claim(delivery, delivery.sender), sid[:200])])
    elif status in GOOD:
        delivered(delivery)
    elif status in BAD:
        failed(delivery, f"the provider says: {status}")
    return False


def from_pagerduty(event: Mapping[str, Any]) -> None:
    """An incident that somebody acknowledged or resolved over there (webhooks v3)."""
    data, kind = event.get("data"), event.get("event_type")
    key = str(data.get("incident_key", "")) if isinstance(data, dict) else ""
    incident_id = key.removeprefix(f"{settings.SITE_URL}/incidents/")
    if not incident_id.isdecimal() or len(incident_id) > 18:
        return
    agent = event.get("agent")
    name = str(agent.get("summary", "")).strip() if isinstance(agent, dict) else ""
    who = _who_in_pagerduty(agent.get("email", "") if isinstance(agent, dict) else "", name)
    try:
        if kind == "incident.acknowledged":
            lifecycle.acknowledge(int(incident_id), who, via=f"in PagerDuty{f' by {name}' if name else ''}")
        elif kind == "incident.resolved":
            lifecycle.resolve(int(incident_id), who, f"resolved in PagerDuty{f' by {name}' if name else ''}")
    except (Conflict, Incident.DoesNotExist):
        return  # told twice, or somebody was first here


def _who_in_pagerduty(email: object, name: str) -> Who:
    """One of ours by e-mail, or by a name that only one person has; else PagerDuty itself."""
    people = Person.objects.filter(is_active=True)
    found = list(people.filter(email__iexact=email)) if isinstance(email, str) and email else []
    if not found and name:
        found = [one for one in people if name.casefold() in (one.title_name.casefold(), one.username.casefold())]
    if len(found) != 1:
        return SYSTEM("PagerDuty")
    return Who(found[0].title_name, found[0].pk, "PagerDuty")


def from_webhook(told: Mapping[str, Any]) -> None:
    """{"key": …, "state": "delivered", "failed" or "acknowledged"} of a generic webhook's receiver."""
    delivery = _delivery("webhook", str(told.get("key", "")))
    if delivery is None:
        return
    match told.get("state"):
        case "delivered":
            delivered(delivery)
        case "failed":
            failed(delivery, "the receiver says: failed")
        case "acknowledged":
            acknowledge(delivery, "by webhook")


def _delivery(channel: str, key: str) -> Delivery | None:
    return Delivery.objects.filter(channel=channel, key=key).select_related("page__person").first()


def delivered(delivery: Delivery) -> None:
    """It reached the person's device: no other channel has to be tried."""
    with transaction.atomic():
        incident = timeline.locked(delivery.incident_id) if delivery.incident_id else None
        known = [Delivery.State.DELIVERED, Delivery.State.SEEN]
        rows = Delivery.objects.filter(pk=delivery.pk).exclude(state__in=known)
        if not rows.update(state=Delivery.State.DELIVERED, delivered_at=Now(), next_at=None):
            return
        page = delivery.page
        if page is None or incident is None:
            return
        unseen = Page.objects.filter(pk=page.pk).exclude(state=Page.State.SEEN)
        unseen.update(
            state=Page.State.DELIVERED, delivered_at=Coalesce("delivered_at", Now()), next_way_at=None,
            accepted_at=Coalesce("accepted_at", Now()),
        )  # fmt: skip
        # It may be quicker than the answer to the request.
        Incident.objects.filter(pk=incident.pk, notified_at=None).update(notified_at=Now())
        words = f"{page.person_name}: delivered by {delivery.get_channel_display()}"
        data = {"page": page.pk, "channel": delivery.channel}
        timeline.append(incident, lifecycle.CLOCK, NewEntry(Kind.PAGE, words, Tone.OK, data=data))


def failed(delivery: Delivery, words: str) -> None:
    """It reached nobody: the next channel is tried at once."""
    with transaction.atomic():
        incident = timeline.locked(delivery.incident_id) if delivery.incident_id else None
        over = [Delivery.State.DELIVERED, Delivery.State.SEEN, Delivery.State.FAILED, Delivery.State.CANCELLED]
        rows = Delivery.objects.filter(pk=delivery.pk).exclude(state__in=over)
        if not rows.update(state=Delivery.State.FAILED, error=words[:500], permanent=True, next_at=None):
            return
        page = delivery.page
        if page is None or incident is None:
            return
        if incident.state == Incident.State.OPEN:
            # Only while this is the way that is being tried: a word about an earlier one comes too late.
            tried = Page.objects.filter(pk=page.pk, way=way_of(delivery)).exclude(state=Page.State.SEEN)
            tried.update(next_way_at=Now())
        text = f"{page.person_name}: {delivery.get_channel_display()} failed, {words}"
        data = {"page": page.pk, "channel": delivery.channel, "error": words}
        timeline.append(incident, lifecycle.CLOCK, NewEntry(Kind.PAGE, text, Tone.BAD, data=data))


def acknowledge(delivery: Delivery, via: str) -> bool:
    """The person of the page says so; whether they were the first."""
    page = delivery.page
    if page is None or delivery.incident_id is None:
        return False
    who = Who(page.person_name, page.person_id, via)
    try:
        lifecycle.acknowledge(delivery.incident_id, who, via=via, page_id=page.pk)
    except Conflict:
        seen(page)
        return False
    return True


def seen(page: Page) -> None:
    """The person has it in front of them, though somebody else was first: their other channels stay quiet."""
    with transaction.atomic():
        timeline.locked(page.incident_id)
        unseen = Page.objects.filter(pk=page.pk).exclude(state=Page.State.SEEN)
        if unseen.update(state=Page.State.SEEN, seen_at=Now(), next_way_at=None):
            told = Delivery.objects.filter(page=page, state__in=lifecycle.TOLD)
            told.update(state=Delivery.State.SEEN, seen_at=Now())
