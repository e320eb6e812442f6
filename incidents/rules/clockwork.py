"""The duties of the clock for alert rules, with the seconds between two calls."""

from collections.abc import Callable

from django.conf import settings

from incidents.rules import databases, demo_pool, duty

DUTIES: tuple[tuple[str, float, Callable[[], int]], ...] = (
    ("fit rules", 5.0, duty.fit),
    ("evaluate rules", 1.0, duty.evaluate_due),
    ("probe databases", 1.0, databases.probe_due),
    ("forget database samples", 60.0, databases.forget_old),
    *((("hold the demo's connections", 5.0, demo_pool.hold),) if settings.DEMO else ()),
)
