"""What people type about alerts, checked before anything else looks at it."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.db.models import Q

from incidents.models import Alert, AlertSeverity


class AlertFilter(forms.Form):
    """The filters of the list of alerts, as they stand in its address. Without a state: those that fire."""

    q = forms.CharField(required=False, max_length=200)
    state = forms.ChoiceField(
        required=False,
        choices=[("", "that fire"), ("silenced", "silenced"), ("flapping", "that flap"),
                 ("resolved", "that are over"), ("all", "firing or over")],
    )  # fmt: skip
    severity = forms.ChoiceField(required=False, choices=[("", "any severity"), *AlertSeverity.choices])
    environment = forms.SlugField(required=False)

    def condition(self, now: Any) -> Q:
        """The rows wanted. A filter that cannot be read is left out, and its field says so."""
        self.is_valid()
        conditions: dict[str, Callable[[Any], Q]] = {
            "q": lambda words: Q(name__icontains=words) | Q(summary__icontains=words),
            "severity": lambda severity: Q(severity=severity),
            "environment": lambda slug: Q(environment__slug=slug),
        }
        states = {
            "": Q(state=Alert.State.FIRING),
            "silenced": Q(state=Alert.State.FIRING, silence__ends_at__gt=now),
            "flapping": Q(flapping_until__gt=now),
            "resolved": Q(state=Alert.State.RESOLVED),
            "all": Q(),
        }
        condition = states[self.cleaned_data.get("state", "")]
        for name, build in conditions.items():
            if value := self.cleaned_data.get(name):
                condition &= build(value)
        return condition

    @property
    def is_plain(self) -> bool:
        """Nothing is asked for in particular."""
        return not self.errors and not any(self.cleaned_data.values())
