"""What people type about silences, checked before anything else looks at it."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.web.moments import MomentField
from environments.access import visible_environments
from environments.models import Environment
from incidents.intake.matchers import BadMatchers, parse
from incidents.models import Silence

LASTS = {"1 hour": 1, "2 hours": 2, "4 hours": 4, "8 hours": 8, "1 day": 24, "1 week": 168}


class MatchersField(forms.CharField):
    """alertname="X", environment=~"prod.*" as matchers."""

    def to_python(self, value: Any) -> Any:
        try:
            return parse(super().to_python(value) or "")
        except BadMatchers as error:
            raise ValidationError(str(error)) from None

    def prepare_value(self, value: Any) -> Any:
        return value


class SilenceForm(forms.Form):
    """A silence or a maintenance window. Times are UTC."""

    kind = forms.ChoiceField(choices=Silence.Kind.choices, initial=Silence.Kind.SILENCE, required=False)
    matchers = MatchersField(
        required=False,
        max_length=4000,
        label="Which alerts",
        help_text='As in alertname="HighErrorRate", service=~"pitchey-.*"; all of them have to hold.',
    )
    environment = forms.ModelChoiceField(Environment.objects.none(), required=False, to_field_name="slug")
    starts_at = MomentField(required=False, label="From (UTC)", help_text="Now, if it is left empty.")
    lasts = forms.ChoiceField(choices=[(word, word) for word in LASTS], initial="2 hours", required=False)
    ends_at = MomentField(required=False, label="Until (UTC)", help_text="In place of the duration.")
    reason = forms.CharField(max_length=2000, label="Why", widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["environment"]
        assert isinstance(field, forms.ModelChoiceField)
        scopes = actor.scopes(Role.OPERATOR)
        own = visible_environments(actor)
        field.queryset = own if scopes is None else own.filter(slug__in=scopes)
        # Without an environment it is for all of them, which needs the role everywhere.
        field.empty_label = "all environments" if scopes is None else None
        field.required = scopes is not None

    def values(self, now: datetime) -> dict[str, Any]:
        """What `silences.add` takes. now: by the database's clock."""
        data = self.cleaned_data
        start = data["starts_at"] or now
        hours = LASTS[data["lasts"] or "2 hours"]
        return {
            "kind": Silence.Kind(data["kind"] or Silence.Kind.SILENCE),
            "matchers": data["matchers"],
            "environment": data["environment"],
            "starts_at": data["starts_at"],
            "ends_at": data["ends_at"] or start + timedelta(hours=hours),
            "reason": data["reason"],
        }
