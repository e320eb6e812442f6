"""Telling people of what they have to do about a lesson: an e-mail to one of them, a notice to the team.

Each is one row of the outbox under a key of its own, so that telling twice is telling once.
"""

from typing import Any

from django.conf import settings

from controlplane.accounts.models import Person
from incidents import outbox
from incidents.models import Channel, ChannelKind, ContactMethod, Delivery, Incident

EMAIL, SLACK = ChannelKind.EMAIL, ChannelKind.SLACK


def tell_person(incident: Incident, person: Person | None, key: str, words: str, path: str) -> bool:
    """An e-mail to somebody; whether there is a way to send it. In the caller's transaction."""
    if person is None or not person.is_active or not _configured(EMAIL):
        return False
    row = ContactMethod.objects.filter(person=person, kind=EMAIL).first()
    address = row.address if row else person.email
    if address:
        message = _message(incident, words, path)
        outbox.queue(incident, Delivery.Purpose.NOTICE, EMAIL, key, message, address=address)
    return bool(address)


def tell_team(incident: Incident, key: str, words: str, path: str) -> bool:
    """A notice to the team's chat; whether there is one. In the caller's transaction."""
    if not _configured(SLACK):
        return False
    outbox.queue(incident, Delivery.Purpose.NOTICE, SLACK, key, _message(incident, words, path))
    return True


def _configured(kind: ChannelKind) -> bool:
    return Channel.objects.filter(kind=kind, paused=False).exists()


def _message(incident: Incident, words: str, path: str) -> dict[str, Any]:
    return {**outbox.message_of(incident, words), "url": settings.SITE_URL + path}
