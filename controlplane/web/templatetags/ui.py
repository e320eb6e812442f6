"""The words and small pictures that pages share; `docs/ui.md` shows each."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

from django import template
from django.conf import settings
from django.forms import BoundField
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from controlplane.web.tones import Tone

register = template.Library()

MINUTE, HOUR, DAY = 60, 3600, 86400
NO_BREAK = "\N{NO-BREAK SPACE}"


@register.simple_tag
def site_name() -> str:
    """The product's name, also on error pages, which Django renders without a context."""
    return str(settings.SITE_NAME)


@register.simple_tag
def state(tone: str, word: str) -> SafeString:
    """A shape, a colour and a word: `{% state "ok" "succeeded" %}`. An unknown tone is an error."""
    return format_html('<span class="state {}">{}</span>', Tone(tone), word)


@register.filter
def duration(value: float | timedelta | None) -> str:
    """Seconds in people's words, two units at most: 0.4 s, 41 s, 1 m 48 s, 2 h 50 m, 3 d 4 h; nothing is –."""
    if value is None:
        return "–"
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 10 and round(seconds, 1) != round(seconds):
        return f"{seconds:.1f}{NO_BREAK}s"
    whole = round(seconds)
    for size, big, small, below in ((DAY, "d", "h", HOUR), (HOUR, "h", "m", MINUTE), (MINUTE, "m", "s", 1)):
        if whole >= size:
            return NO_BREAK.join((str(whole // size), big, f"{whole % size // below:02}".lstrip("0") or "0", small))
    return f"{whole}{NO_BREAK}s"


@register.filter
def promised(value: float | timedelta | None) -> str:
    """A duration that somebody promised, round as promises are: 4 h, not 4 h 0 m."""
    return re.sub(f"{NO_BREAK}0{NO_BREAK}[a-z]$", "", duration(value))


def ago(at: datetime, now: datetime) -> str:
    """How long ago, or in how long, in one unit; `static/time.js` says the same words every second."""
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    if size < 5:
        return "now"
    for limit, unit, word in ((MINUTE, 1, "s"), (HOUR, MINUTE, "min"), (DAY, HOUR, "h")):
        if size < limit:
            return _ago(int(size // unit), word, past=seconds > 0)
    days = int(size // DAY)
    return _ago(days, "day" if days == 1 else "days", past=seconds > 0)


def _ago(count: int, word: str, *, past: bool) -> str:
    return f"{count}{NO_BREAK}{word} ago" if past else f"in {count}{NO_BREAK}{word}"


def absolute(at: datetime) -> str:
    """The full time with its zone, for hovering: Tue 24 Nov 2026, 14:02:11 UTC."""
    local = timezone.localtime(at)
    return f"{local:%a} {local.day} {local:%b %Y, %H:%M:%S %Z}"


def _time(kind: str, at: datetime, text: str) -> SafeString:
    """An element that `static/time.js` keeps true each second, in one of its ways: ago, since, countdown."""
    return format_html('<time datetime="{}" title="{}" data-{}>{}</time>', at.isoformat(), absolute(at), kind, text)


@register.simple_tag
def when(at: datetime | None) -> SafeString | str:
    """Relative and alive, for where it is lived: 3 min ago; absolute on hover."""
    return _time("ago", at, ago(at, timezone.now())) if at else "–"


@register.simple_tag
def moment(at: datetime | None) -> SafeString | str:
    """Absolute, for history: 14:02 today, 24 Nov 14:02 this year, 24 Nov 2025 14:02 before; seconds on hover."""
    if at is None:
        return "–"
    local, today = timezone.localtime(at), timezone.localtime()
    day = "" if local.date() == today.date() else f"{local.day} {local:%b} "
    year = "" if local.year == today.year else f"{local.year} "
    markup = '<time datetime="{}" title="{}">{}</time>'
    return format_html(markup, at.isoformat(), absolute(at), f"{day}{year}{local:%H:%M}")


@register.simple_tag
def elapsed(since: datetime | None) -> SafeString | str:
    """A duration that goes on: 1 m 48 s since it began."""
    return _time("since", since, duration((timezone.now() - since).total_seconds())) if since else "–"


@register.simple_tag
def countdown(until: datetime) -> SafeString:
    """What is left until a due time, as 02:41; 00:00 when it has come."""
    left = max(0, ceil((until - timezone.now()).total_seconds()))
    hours, rest = divmod(left, HOUR)
    text = f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"
    return _time("countdown", until, text)


@register.filter
def digest(value: str) -> SafeString | str:
    """A digest short enough to compare by eye, sha256:e07a…91d2, the whole of it on hover."""
    if not value:
        return "–"
    name, colon, body = value.rpartition(":")
    short = f"{name}{colon}{body[:4]}…{body[-4:]}" if re.fullmatch(r"[0-9a-f]{16,}", body) else value
    return format_html('<span class="mono digest" title="{}">{}</span>', value, short)


@register.inclusion_tag("web/_sparkline.html")
def sparkline(values: Sequence[float | None], tone: str = "ok", label: str = "") -> dict[str, object]:
    """Oldest first, on a scale from zero; None (nobody answered) breaks the line and leaves a red tick."""
    width, height, foot = 120.0, 18.0, 17.0
    top = max((v for v in values if v is not None), default=0.0) * 1.25 or 1.0
    step = width / max(len(values) - 1, 1)
    line, ticks, pen_down = [], [], False
    for index, value in enumerate(values):
        x = f"{index * step:.1f}"
        if value is None:
            ticks.append(x)
        else:
            y = f"{foot - value / top * (foot - 2):.1f}"
            line.append(f"L{x} {y}" if pen_down else f"M{x} {y}h.1")
        pen_down = value is not None
    return {"line": "".join(line), "ticks": ticks, "tone": Tone(tone), "label": label, "height": height}


@register.filter
def control(field: BoundField) -> SafeString:
    """A form field's input with Tabler's class; Django itself adds aria-invalid and points to hint and errors."""
    styles = {"select": "form-select", "checkbox": "form-check-input", "radioselect": "", "checkboxselectmultiple": ""}
    style = styles.get(field.widget_type, "form-control")
    return field.as_widget(attrs={"class": f"{style} is-invalid" if field.errors else style})


@register.simple_tag(takes_context=True)
def current(context: template.Context, *names: str) -> SafeString | str:
    """Marks a link of the navigation whose page, one of several pages, or a page below one of them, is shown."""
    request = context.get("request")
    path = "" if request is None else request.path
    addresses = [reverse(name) for name in names]
    here = any(path == one or (one != "/" and path.startswith(f"{one}/")) for one in addresses)
    return mark_safe(' aria-current="page"') if here else ""
