"""Where providers tell what became of a message. No session and no CSRF token: each body is signed."""

import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from controlplane.web.problems import problem
from incidents import receipts

FORGED = "The signature is missing or wrong. Check the secret on both sides."
HEARD = "<Response><Say>Thank you. It is acknowledged.</Say></Response>"
NUL = r"\u0000"
TOO_LATE = "<Response><Say>Thank you. Somebody has it already.</Say></Response>"


@csrf_exempt
@require_POST
def receipt(request: HttpRequest, channel: str) -> HttpResponse:
    """One word of a provider; whatever is not known changes nothing."""
    try:
        if channel in ("phone", "sms"):
            return _twilio(request, channel)
        if channel in ("pagerduty", "webhook"):
            return _json(request, channel)
    except receipts.Forged:
        return problem(403, FORGED)
    return problem(404, "Nobody calls back for this channel.")


def _twilio(request: HttpRequest, channel: str) -> HttpResponse:
    form = {name: str(value) for name, value in request.POST.items()}
    url = settings.SITE_URL + request.get_full_path()
    receipts.check_twilio(channel, url, form, request.headers.get("X-Twilio-Signature", ""))
    first = receipts.from_twilio(channel, request.GET.get("key", ""), form)
    words = "" if "Digits" not in form else HEARD if first else TOO_LATE
    return HttpResponse(words or "<Response/>", content_type="text/xml")


def _json(request: HttpRequest, channel: str) -> HttpResponse:
    if channel == "pagerduty":
        receipts.check_pagerduty(request.body, request.headers.get("X-PagerDuty-Signature", ""))
    else:
        receipts.check_webhook(request.body, request.headers.get("X-Signature-256", ""))
    told = _object(request.body)
    if told is None:
        return problem(400, "The body is not a JSON object without NUL characters.")
    if channel == "pagerduty":
        event = told.get("event")
        receipts.from_pagerduty(event if isinstance(event, dict) else {})
    else:
        receipts.from_webhook(told)
    return HttpResponse(status=202)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    # PostgreSQL keeps no NUL, and could not even be asked for one.
    return told if isinstance(told, dict) and NUL not in json.dumps(told) else None
