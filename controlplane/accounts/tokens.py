"""API tokens: made once, shown once, kept as a hash."""

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import ApiToken, Person, Role
from controlplane.audit.record import Who, record

MARK = "cp_"


def create_token(person: Person, name: str, role: Role, lifetime_days: int, who: Who) -> tuple[ApiToken, str]:
    """A new token and its text, which nobody can read again."""
    text = MARK + secrets.token_urlsafe(32)
    with transaction.atomic():
        token = ApiToken.objects.create(
            person=person, name=name, prefix=text[:9], digest=_digest(text), role=role,
            expires_at=Now() + timedelta(days=lifetime_days),
        )  # fmt: skip
        data = {"name": name, "role": str(role), "days": lifetime_days}
        record(who, "token.created", f"token {token.prefix} of {person.username}", data=data)
    return token, text


def authenticate(text: str) -> Actor | None:
    """Whose token it is, with the token's cap; None when it is unknown, expired, revoked or its person gone."""
    valid = ApiToken.objects.filter(revoked_at=None, expires_at__gt=Now(), person__is_active=True)
    token = valid.select_related("person").filter(digest=_digest(text)).first()
    if token is None:
        return None
    stale = Q(last_used_at=None) | Q(last_used_at__lt=Now() - timedelta(minutes=1))
    ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=Now())
    return Actor(token.person, Role(token.role), f"api token {token.name}")


def revoke(token: ApiToken, who: Who, reason: str = "") -> None:
    """End a token for good."""
    with transaction.atomic():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now()):
            record(who, "token.revoked", f"token {token.prefix} of {token.person.username}", reason=reason)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
