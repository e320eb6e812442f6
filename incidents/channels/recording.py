"""Where no message may leave: everything goes to a recording provider instead (setting RECORDING_PROVIDER)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings


def redirected(kind: str, configured: Mapping[str, Any], address: str) -> tuple[dict[str, Any], str]:
    """The settings and the address to use: as they are, or those of the recording provider.

    Its mail server listens on the port after that of its pages.
    """
    base = settings.RECORDING_PROVIDER
    if not base:
        return dict(configured), address
    parts = urlsplit(base)
    changes: dict[str, dict[str, Any]] = {
        "pagerduty": {"url": f"{base}/v2/enqueue"},
        "slack": {"url": f"{base}/slack"},
        "phone": {"url": base},
        "sms": {"url": base},
        "email": {"host": parts.hostname, "port": (parts.port or 80) + 1, "tls": "none", "user": ""},
        "webhook": {"url": f"{base}/webhook"},
    }
    return {**configured, **changes[kind]}, "" if kind == "webhook" else address
