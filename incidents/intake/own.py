"""Alerts of the control plane itself: what it says goes the way of all others, by the same rules.

`say` is for those who know of something (the alert rules); `watching.py` finds the rest in what others recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction

from controlplane.clock.database import database_time
from incidents.intake.keeping import Heard, keep
from incidents.intake.said import Said, few_enough, fingerprint_of, not_later, severity_of
from incidents.models import Alert, AlertSource

SLUG = "control-plane"
PASSING = ("severity", "notify")


@dataclass(frozen=True)
class OwnAlert:
    """What the control plane found. mark: what makes it the same alert; "" for its name and labels.

    environment: a slug, or "" for the whole installation. started_at: of this firing, also when it is over.
    """

    name: str
    severity: str
    summary: str
    firing: bool
    started_at: datetime
    environment: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    mark: str = ""
    ended_at: datetime | None = None

    @property
    def fingerprint(self) -> str:
        """What makes it the same alert: another severity, or other people to tell, make no other one of it."""
        return fingerprint_of(self.mark, {name: text for name, text in self._labels.items() if name not in PASSING})

    @property
    def _labels(self) -> Mapping[str, str]:
        place = {"environment": self.environment} if self.environment else {}
        return few_enough({**self.labels, "alertname": self.name, **place})

    def said(self, now: datetime) -> Said:
        """The same as any source would say it."""
        return Said(
            fingerprint=self.fingerprint,
            firing=self.firing,
            name=self.name,
            at=now,
            severity=severity_of(self.severity),
            labels=self._labels,
            annotations=few_enough(self.annotations),
            summary=self.summary,
            url=self.url,
            started_at=not_later(self.started_at, now),
            ended_at=not_later(self.ended_at, now),
        )


def source() -> AlertSource:
    """The control plane's own source, made when it is first needed; nobody can post to it."""
    return AlertSource.objects.get_or_create(slug=SLUG, defaults={"kind": AlertSource.Kind.OWN})[0]


def say(alerts: Sequence[OwnAlert]) -> int:
    """Say that something fires or is over; returns how many alerts that was about.

    Call it in the transaction that found out, or it makes its own. Said twice it is the same alert: the fingerprint
    says which one, `started_at` which firing of it.
    """
    if not alerts:
        return 0
    now = database_time()
    with transaction.atomic():
        return keep([Heard(source().pk, None, [one.said(now) for one in alerts])])


def firing_of(prefix: str) -> dict[str, Alert]:
    """The own alerts that fire and whose marks begin so, by mark."""
    rows = Alert.objects.filter(source__slug=SLUG, fingerprint__startswith=prefix, state=Alert.State.FIRING)
    return {one.fingerprint: one for one in rows.select_related("environment")}


def say_news(found: Sequence[OwnAlert], firing: Mapping[str, Alert]) -> int:
    """Of what is found each time anew, say only what is not known; returns how many alerts that was about.

    firing: all that the caller could find (`firing_of`); of these, what is not found any more is over.
    """
    news = [one for one in found if _is_news(one, firing.get(one.fingerprint))]
    gone = firing.keys() - {one.fingerprint for one in found}
    return say([*news, *(_over(firing[mark]) for mark in sorted(gone))])


def _is_news(one: OwnAlert, known: Alert | None) -> bool:
    return known is None or one.started_at > known.started_at or one.summary != known.summary


def _over(alert: Alert) -> OwnAlert:
    """The end of an alert, which keeps its texts."""
    return OwnAlert(
        name=alert.name,
        severity=alert.severity,
        summary=alert.summary,
        firing=False,
        started_at=alert.started_at,
        environment=alert.environment.slug if alert.environment else "",
        labels=alert.labels,
        annotations=alert.annotations,
        url=alert.url,
        mark=alert.fingerprint,
    )
