"""Rules between settings, checked before anything starts; `docs/settings.md` says what each setting means."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error


def leases_outlive_heartbeats(app_configs: Sequence[Any] | None, **_kwargs: Any) -> list[CheckMessage]:
    """A lease survives one lost heartbeat, or healthy workers would be taken for dead."""
    if 0 < settings.OPERATION_HEARTBEAT_SECONDS * 2 <= settings.OPERATION_LEASE_SECONDS:
        return []
    hint = "Set OPERATION_LEASE_SECONDS to at least twice OPERATION_HEARTBEAT_SECONDS; 5 and 1 are the defaults."
    return [Error("A lease would run out between two heartbeats.", hint=hint, id="controlplane.E001")]


def approvals_last(app_configs: Sequence[Any] | None, **_kwargs: Any) -> list[CheckMessage]:
    """An approval that expires at once can never be given."""
    if settings.APPROVAL_LIFETIME_HOURS >= 1:
        return []
    hint = "Set APPROVAL_LIFETIME_HOURS to at least 1; 24 is the default."
    return [Error("Operations would expire before anybody can approve them.", hint=hint, id="controlplane.E002")]


def redis_is_named(app_configs: Sequence[Any] | None, **_kwargs: Any) -> list[CheckMessage]:
    """REDIS_URL is an address of Redis."""
    if urlsplit(settings.REDIS_URL).scheme in {"redis", "rediss", "unix"}:
        return []
    hint = "Write redis://host:6379/0, rediss:// for TLS, or unix:///path."
    return [Error("REDIS_URL is not an address of Redis.", hint=hint, id="controlplane.E003")]


def plain_http_stays_at_home(app_configs: Sequence[Any] | None, **_kwargs: Any) -> list[CheckMessage]:
    """Without TLS, passwords and session cookies may only travel inside one computer."""
    if settings.SESSION_COOKIE_SECURE or all(_is_loopback(host) for host in settings.ALLOWED_HOSTS):
        return []
    hint = "Put TLS in front and set HTTPS=true, or take the other names out of ALLOWED_HOSTS."
    return [Error("HTTPS is off, but the pages answer to other computers.", hint=hint, id="controlplane.E004")]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


CHECKS = (leases_outlive_heartbeats, approvals_last, redis_is_named, plain_http_stays_at_home)
