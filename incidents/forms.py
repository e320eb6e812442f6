"""What people type about incidents, checked before anything else looks at it."""

from datetime import UTC, datetime, timedelta

from django import forms
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from environments.access import visible_environments
from incidents.models import Grade

DATETIME = "%Y-%m-%dT%H:%M"


class ReportForm(forms.Form):
    """Something that a person noticed."""

    title = forms.CharField(max_length=300, label="What is wrong, in a few words")
    environments = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple, label="Where")
    impact = forms.ChoiceField(choices=Grade.choices, initial=Grade.MEDIUM, label="Impact: how much of it")
    urgency = forms.ChoiceField(choices=Grade.choices, initial=Grade.MEDIUM, label="Urgency: how soon it hurts more")
    reason = forms.CharField(
        required=False, max_length=2000, label="What you saw", widget=forms.Textarea(attrs={"rows": 3})
    )

    def __init__(self, actor: Actor, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        mine = [one for one in visible_environments(actor) if actor.may(Role.OPERATOR, [one.slug])]
        field = self.fields["environments"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(one.slug, one.name) for one in mine]


class NoteForm(forms.Form):
    """A note, perhaps filled in for a time before."""

    text = forms.CharField(max_length=2000)
    at = forms.DateTimeField(required=False, input_formats=[DATETIME])

    def clean_at(self) -> datetime | None:
        """In UTC, as the page says; not in the future."""
        at: datetime | None = self.cleaned_data["at"]
        if at is None:
            return None
        at = at.replace(tzinfo=UTC)
        if at > timezone.now() + timedelta(minutes=1):
            raise forms.ValidationError("This is still to come: leave the time empty for now.")
        return at
