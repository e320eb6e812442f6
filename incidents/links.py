"""Signed addresses: acknowledging from a message without signing in, and the callbacks of providers."""

from urllib.parse import urlencode

from django.conf import settings
from django.core import signing
from django.urls import reverse

SALT = "incidents.acknowledge"
LIFETIME_SECONDS = 24 * 3600


class BadLink(Exception):
    """The link is not ours, or too old; the words say which."""


def acknowledge_url(page_id: int) -> str:
    """For the person of a page: whoever holds it may acknowledge this one incident, for a day."""
    token = signing.dumps(page_id, salt=SALT, compress=False)
    return f"{settings.SITE_URL}{reverse('acknowledge-by-link', args=[token])}"


def page_of(token: str) -> int:
    """The number of the page that a link is about. Raises BadLink."""
    try:
        page_id = signing.loads(token, salt=SALT, max_age=LIFETIME_SECONDS)
    except signing.SignatureExpired as error:
        raise BadLink("This link is older than a day. Sign in, and acknowledge on the incident's page.") from error
    except signing.BadSignature as error:
        raise BadLink("This link is not one of ours, or was cut off. Open it whole from the message.") from error
    if not isinstance(page_id, int):
        raise BadLink("This link is not one of ours.")
    return page_id


def callback_url(channel: str, key: str) -> str:
    """Where a provider tells what became of a message."""
    return f"{settings.SITE_URL}{reverse('receipt', args=[channel])}?{urlencode({'key': key})}"
