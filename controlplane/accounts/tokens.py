"""API tokens: shown once, stored as a digest, expiring, never stronger than the role they were given."""

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import ApiToken, Person, Role
from controlplane.audit.models import Entry
from controlplane.audit.record import Who, record, record_denied

BEGINNING = "cp_"
PREFIX_LENGTH = 9
# How often the time of the last use is written.
USED_EVERY = timedelta(minutes=1)
# How often one token that is no longer valid is written about.
TOLD_EVERY = timedelta(minutes=10)


def create_token(person: Person, name: str, role: Role, lifetime_days: int, who: Who) -> tuple[ApiToken, str]:
    """A new token and its plaintext, which can never be shown again. role: the strongest that it allows."""
    plaintext = f"{BEGINNING}{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        token = ApiToken.objects.create(
            person=person,
            name=name,
            prefix=plaintext[:PREFIX_LENGTH],
            digest=_digest(plaintext),
            role=role,
            expires_at=timezone.now() + timedelta(days=lifetime_days),
        )
        data = {"role": token.role, "expires_at": token.expires_at}
        record(who, "token.created", str(token), data=data)
    return token, plaintext


def authenticate(plaintext: str) -> Actor | None:
    """Who acts with this token; None if it is unknown, expired or revoked, or its person was deactivated.

    The token is found by its digest: how long that takes tells nothing about the token itself. That one which is
    no longer valid was tried is kept, once in a while.
    """
    expired = ExpressionWrapper(Q(expires_at__lte=Now()), output_field=BooleanField())
    token = (
        ApiToken.objects.annotate(expired=expired).select_related("person").filter(digest=_digest(plaintext)).first()
    )
    if token is None:
        return None
    if wrong := _what_is_wrong(token, expired=token.expired):
        _tell_of(token, wrong)
        return None
    if token.last_used_at is None or timezone.now() - token.last_used_at >= USED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=Now())
    return Actor(token.person, cap=Role(token.role), via=f"api token {token.name}")


def _what_is_wrong(token: ApiToken, *, expired: bool) -> str:
    if token.revoked_at is not None:
        return "The token was revoked."
    if expired:
        return "The token has expired."
    return "" if token.person.is_active else "Its person was deactivated."


def _tell_of(token: ApiToken, wrong: str) -> None:
    lately = Entry.objects.filter(action="access.denied", target__iexact=str(token), at__gte=Now() - TOLD_EVERY)
    if not lately.exists():
        who = Who(token.person.title_name, token.person.pk, f"api token {token.name}")
        record_denied(who, "access.denied", str(token), reason=wrong)


def revoke(token: ApiToken, who: Who, reason: str = "") -> None:
    """Refuse the token from now on. A second time changes nothing."""
    with transaction.atomic():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now()):
            record(who, "token.revoked", str(token), reason=reason)


def _digest(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode(errors="replace")).hexdigest()
