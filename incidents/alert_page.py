"""What the page of an alert says beyond its row."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from controlplane.accounts.access import Actor
from controlplane.web.tones import Tone
from incidents.access import visible_incidents
from incidents.intake.matchers import spell
from incidents.models import Alert, Incident, RawAlert

EXCERPT = 2000
# What labels and annotations are about in the first place, and the page says already.
SAID = ("summary",)


@dataclass(frozen=True)
class AlertPage:
    """One alert, for one person."""

    actor: Actor
    alert: Alert
    now: datetime

    @property
    def tone(self) -> Tone:
        """Red while it fires and somebody could be told, orange while nobody is, green when it is over."""
        if self.alert.state != Alert.State.FIRING:
            return Tone.OK
        return Tone.WAIT if self.is_silenced or self.flaps else Tone.BAD

    @property
    def word(self) -> str:
        """How it stands."""
        if self.flaps:
            return "flapping"
        if self.alert.state != Alert.State.FIRING:
            return "over"
        return "fires, silenced" if self.is_silenced else "fires"

    @property
    def flaps(self) -> bool:
        """It turned too often lately."""
        return self.alert.flapping_until is not None and self.alert.flapping_until > self.now

    @property
    def is_silenced(self) -> bool:
        """A silence holds for it now."""
        return self.alert.silence is not None and self.alert.silence.ends_at > self.now

    @property
    def silence_words(self) -> str:
        """What the silence is about."""
        return spell(self.alert.silence.matchers) if self.alert.silence else ""

    @cached_property
    def incident(self) -> Incident | None:
        """The one it is part of, if this person may see it."""
        return visible_incidents(self.actor).filter(pk=self.alert.incident_id or 0).first()

    @property
    def annotations(self) -> dict[str, str]:
        """What its source says besides the summary."""
        return {name: text for name, text in self.alert.annotations.items() if name not in SAID}


def excerpt(raw: RawAlert) -> str:
    """The beginning of a body, whatever it is made of."""
    return bytes(raw.body[:EXCERPT]).decode("utf-8", "replace")
