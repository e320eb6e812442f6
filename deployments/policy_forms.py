"""What people send to the page of an environment's rules."""

from datetime import datetime
from typing import Any

from django import forms

from controlplane.web.moments import MomentField
from deployments.gates.recurring_words import UNITS
from deployments.gates.windows import LONGEST_MINUTES, problem_with_zone

AGAIN = [("", "once"), *((f"FREQ={name}", f"every {unit}") for name, unit in UNITS.items())]


class FreezeForm(forms.Form):
    """A freeze: why, from when to when by the clock on the wall, and whether it comes again."""

    reason = forms.CharField(max_length=300, help_text="Whoever wants to deploy reads it.")
    starts = MomentField(label="Closed from")
    ends = MomentField(label="until")
    zone = forms.CharField(label="Time zone", initial="UTC", max_length=60, help_text="As in Europe/Berlin.")
    again = forms.ChoiceField(required=False, choices=AGAIN)
    rule = forms.CharField(
        required=False, label="or by a rule", max_length=300, help_text="Of a calendar, as in FREQ=MONTHLY;BYDAY=-1FR."
    )

    def clean_zone(self) -> str:
        """A name that is known."""
        zone = str(self.cleaned_data["zone"])
        if words := problem_with_zone(zone):
            raise forms.ValidationError(f"{zone} {words}.")
        return zone

    def clean(self) -> dict[str, Any]:
        """The end is later than the beginning, and not too far."""
        cleaned = super().clean() or self.cleaned_data
        if {"starts", "ends"} <= cleaned.keys() and not 1 <= self.minutes <= LONGEST_MINUTES:
            self.add_error("ends", f"It has to end after it begins, and within {LONGEST_MINUTES // 1440} days.")
        if cleaned.get("again") and cleaned.get("rule"):
            self.add_error("rule", "Say it once: choose when it comes again, or write a rule.")
        return cleaned

    @property
    def rule_of_both(self) -> str:
        """As rows keep it; "" for once."""
        return str(self.cleaned_data["rule"] or self.cleaned_data["again"])

    @property
    def starts_on_the_wall(self) -> str:
        """As rows keep it."""
        return _wall(self.cleaned_data["starts"]).isoformat(timespec="minutes")

    @property
    def minutes(self) -> int:
        """How long, by the clock on the wall."""
        length = _wall(self.cleaned_data["ends"]) - _wall(self.cleaned_data["starts"])
        return int(length.total_seconds() // 60)


def _wall(moment: datetime) -> datetime:
    """What was typed: Django takes it for UTC."""
    return moment.replace(tzinfo=None)
