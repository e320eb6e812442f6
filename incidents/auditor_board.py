"""What pages say of the auditor. It watches by itself (`incidents/auditor/`); here its rows are only shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import QuerySet, Subquery
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.web.tones import Tone
from environments.cards import Card
from incidents.auditor.invariants import INVARIANTS
from incidents.auditor.looks import CHAIN, UNCHECKED
from incidents.late import Answers, Question
from incidents.models import AuditorAlarm, AuditorBeat

SILENT_AFTER = timedelta(seconds=60)
AT_MOST = 4
OTHERS = {
    CHAIN: "every entry of a timeline has the hash of what it says, and follows on the one before",
    UNCHECKED: "everything here can be checked",
}


def _columns(actor: Actor) -> dict[str, Any]:
    if actor.scopes() is not None:
        return {}
    alarms = AuditorAlarm.objects.filter(over_at=None).order_by("-id").values("words")[: AT_MOST + 1]
    return {"alarms": ArraySubquery(alarms), "auditor_beat": Subquery(_beats()[:1])}


def _cards(found: Answers) -> list[Card]:
    url, alarms = reverse("auditor"), found["alarms"]
    cards = [Card(Tone.BAD, "Auditor", words, url) for words in alarms]
    if len(alarms) > AT_MOST:
        cards = [Card(Tone.BAD, f"The auditor has more than {AT_MOST} alarms", alarms[0], url)]
    if is_silent(found["auditor_beat"], found["now"]):
        cards.append(Card(Tone.WAIT, "Auditor is silent", "Nobody watches the escalation any more", url))
    return cards


# Open alarms, and an auditor that went silent; for those who may see the whole installation.
ALARMS = Question(_columns, _cards)


def last_beat() -> datetime | None:
    """When any auditor last had a good look; None if none ever ran."""
    return _beats().first()


def _beats() -> QuerySet[AuditorBeat, datetime]:
    return AuditorBeat.objects.order_by("-beat_at").values_list("beat_at", flat=True)


def is_silent(beat: datetime | None, now: datetime) -> bool:
    """One ran, and it does no longer."""
    return beat is not None and beat < now - SILENT_AFTER


@dataclass(frozen=True)
class Promise:
    """An invariant as the page shows it, with what breaks it."""

    name: str
    words: str
    alarms: Sequence[AuditorAlarm]

    @property
    def state(self) -> tuple[Tone, str]:
        """Tone and word; a promise that could not be checked is not one that holds."""
        if not self.alarms:
            return Tone.OK, "holds"
        unchecked = all(alarm.key.startswith(f"{UNCHECKED}:") for alarm in self.alarms)
        return (Tone.WAIT, "not known") if unchecked else (Tone.BAD, "broken")


def promises(alarms: Sequence[AuditorAlarm]) -> list[Promise]:
    """All that the auditor looks at, the broken ones first. alarms: those that are open."""
    by_name: dict[str, list[AuditorAlarm]] = {}
    for alarm in alarms:
        name, _, which = alarm.key.partition(":")
        by_name.setdefault(which if name == UNCHECKED else name, []).append(alarm)
    words = {one.name: one.promise for one in INVARIANTS} | {CHAIN: OTHERS[CHAIN]}
    found = [Promise(name, text, by_name.get(name, ())) for name, text in words.items()]
    return sorted(found, key=lambda one: not one.alarms)
