"""What people type about on-call, checked before anything else looks at it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms

from controlplane.accounts.models import Person
from incidents.oncall.rotation import Shift, first_instant
from incidents.oncall.services import REASON_LIMIT, Span
from incidents.oncall.strip import Names, local

YEARS = range(2000, 2101)
ABSENCE_LIMIT = 200


class LocalTimeField(forms.CharField):
    """A time on the clocks of a zone, as an instant; whoever writes an offset is taken at their word."""

    widget = forms.TextInput(attrs={"type": "datetime-local"})

    def __init__(self, *, zone: str, **kwargs: Any) -> None:
        super().__init__(max_length=40, **kwargs)
        self.zone = zone

    def clean(self, value: Any) -> datetime | None:
        """In UTC."""
        text = super().clean(value)
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise forms.ValidationError("Write a day and a time, as in 2026-12-24T09:00.") from error
        if at.year not in YEARS:
            raise forms.ValidationError(f"The year {at.year} is too far away.")
        return first_instant(self.zone, at) if at.tzinfo is None else at.astimezone(UTC)


def active_people() -> dict[str, Person]:
    """Those who can be on call, by username, in the order of their names."""
    return {one.username: one for one in Person.objects.filter(is_active=True).order_by("first_name", "username")}


class PersonField(forms.TypedChoiceField):
    """One of some people, by username."""

    def __init__(self, people: Mapping[str, Person], **kwargs: Any) -> None:
        choices = [("", "choose"), *((name, f"{one.title_name} ({name})") for name, one in people.items())]
        super().__init__(choices=choices, coerce=people.__getitem__, **kwargs)


def reason(limit: int = REASON_LIMIT) -> forms.CharField:
    """Why."""
    return forms.CharField(label="Why", max_length=limit, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class OverrideForm(forms.Form):
    """Somebody stands in."""

    def __init__(self, *args: Any, zone: str, people: Mapping[str, Person], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["person"] = PersonField(people, label="Who")
        self.fields["starts_at"] = LocalTimeField(zone=zone, label=f"From ({zone})")
        self.fields["ends_at"] = LocalTimeField(zone=zone, label=f"Until ({zone})")
        self.fields["reason"] = reason()

    def span(self) -> Span:
        """What was typed, once it is valid."""
        said = self.cleaned_data
        return Span(said["person"], said["starts_at"], said["ends_at"])


class AbsenceForm(forms.Form):
    """Somebody is away."""

    starts_on = forms.DateField(label="First day", widget=forms.DateInput(attrs={"type": "date"}))
    ends_on = forms.DateField(label="Last day", widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args: Any, people: Mapping[str, Person], **kwargs: Any) -> None:
        """people: of whom they may say it; nobody: it is about themselves."""
        super().__init__(*args, **kwargs)
        if people:
            self.fields = {"person": PersonField(people, label="Who"), **self.fields}
        self.fields["reason"] = reason(ABSENCE_LIMIT)


class SwapForm(forms.Form):
    """Two shifts to exchange, chosen from those that are to come."""

    def __init__(self, *args: Any, found: Sequence[Shift], names: Names, zone: str, mine: str, **kwargs: Any) -> None:
        """mine: whose shifts may be given away; "" for anybody's (an operator asks for others)."""
        super().__init__(*args, **kwargs)
        choices = [(value_of(one), f"{names.title(one.person)}: {local(zone, one.starts_at)} to "
                    f"{local(zone, one.ends_at)}", one.person) for one in found if not one.is_gap]  # fmt: skip
        own = [(value, label) for value, label, person in choices if mine in ("", person)]
        others = [(value, label) for value, label, person in choices if person != mine]
        self.fields["gives"] = forms.ChoiceField(label="Give away", choices=own, error_messages=CHANGED)
        self.fields["takes"] = forms.ChoiceField(label="For", choices=others, error_messages=CHANGED)
        self.fields["reason"] = reason()

    def spans(self, people: Mapping[str, Person]) -> tuple[Span, Span]:
        """What was chosen, once it is valid."""
        return span_of(self.cleaned_data["gives"], people), span_of(self.cleaned_data["takes"], people)


CHANGED = {"invalid_choice": "This shift is not there any more: somebody has changed the calendar."}


def value_of(shift: Shift) -> str:
    """A shift as the value of a choice."""
    return f"{shift.person}|{shift.starts_at.isoformat()}|{shift.ends_at.isoformat()}"


def span_of(value: str, people: Mapping[str, Person]) -> Span:
    """The same back; the value is one that a form has offered."""
    person, starts_at, ends_at = value.rsplit("|", 2)
    return Span(people[person], datetime.fromisoformat(starts_at), datetime.fromisoformat(ends_at))


class ImportForm(forms.Form):
    """A calendar to bring in."""

    calendar = forms.FileField(label="File (.ics)", widget=forms.FileInput(attrs={"accept": ".ics,text/calendar"}))
    reason = reason()
