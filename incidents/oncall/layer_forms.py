"""The form of a schedule's layers."""

from collections.abc import Sequence
from typing import Any

from django import forms

from controlplane.accounts.models import Person
from incidents.models import Layer, Schedule
from incidents.oncall.layers import Plan, problem_with_zone
from incidents.oncall.rotation import LayerRule

LAYERS_AT_MOST = 12
PEOPLE_AT_MOST = 50
YEARS = range(2000, 2101)
DAYS = [("0", "Mon"), ("1", "Tue"), ("2", "Wed"), ("3", "Thu"), ("4", "Fri"), ("5", "Sat"), ("6", "Sun")]


def _date(label: str, **kwargs: Any) -> forms.DateField:
    return forms.DateField(label=label, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"), **kwargs)


def _time(label: str, **kwargs: Any) -> forms.TimeField:
    return forms.TimeField(label=label, widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"), **kwargs)


class ScheduleForm(forms.Form):
    """Its name and its clocks."""

    name = forms.CharField(max_length=100)
    time_zone = forms.CharField(max_length=60, label="Time zone", help_text="As in Europe/Berlin, or UTC.")

    def clean_time_zone(self) -> str:
        """One that there is."""
        name = str(self.cleaned_data["time_zone"]).strip()
        if words := problem_with_zone(name):
            raise forms.ValidationError(f"“{name}” {words}.")
        return name


class NewScheduleForm(ScheduleForm):
    """The same with its short name, which no other schedule has."""

    slug = forms.SlugField(max_length=60, label="Short name", help_text="As in primary; the matrix names it by this.")
    field_order = ("slug", "name", "time_zone")


class LayerForm(forms.Form):
    """One layer."""

    name = forms.CharField(max_length=100)
    people = forms.CharField(max_length=2000, help_text="Usernames in the order of their turns: alice, bob")
    every = forms.IntegerField(min_value=1, max_value=1000, initial=1, label="A turn is")
    unit = forms.ChoiceField(choices=Layer.Unit.choices, initial=Layer.Unit.WEEK, label="hours, days or weeks")
    starts_on = _date("First turn on")
    handover = _time("Hand-over at")
    ends_on = _date("Ends on", required=False, help_text="At the hand-over of this day.")
    days = forms.MultipleChoiceField(choices=DAYS, required=False, widget=forms.CheckboxSelectMultiple,
                                     label="Only on", help_text="None: every day.")  # fmt: skip
    from_time = _time("Only from", required=False)
    until_time = _time("Only until", required=False, help_text="Before “from”: over midnight.")

    def clean_people(self) -> list[str]:
        """Usernames as they are spelled."""
        names = [name.strip() for name in str(self.cleaned_data["people"]).split(",") if name.strip()]
        known = {name.lower(): name for name in Person.objects.values_list("username", flat=True)}
        unknown = [name for name in names if name.lower() not in known]
        if unknown:
            raise forms.ValidationError(f"There is nobody called {' or '.join(unknown)}; write usernames.")
        if not 0 < len(names) <= PEOPLE_AT_MOST:
            raise forms.ValidationError(f"Name one to {PEOPLE_AT_MOST} people.")
        return [known[name.lower()] for name in names]

    def clean(self) -> dict[str, Any]:
        """Days in an order that makes sense."""
        said = super().clean() or self.cleaned_data
        for name in ("starts_on", "ends_on"):
            if said.get(name) and said[name].year not in YEARS:
                self.add_error(name, "This year is too far away.")
        if said.get("starts_on") and said.get("ends_on") and said["ends_on"] <= said["starts_on"]:
            self.add_error("ends_on", "It has to end after its first day.")
        return said

    def rule(self) -> LayerRule:
        """What was typed, once it is valid."""
        said = self.cleaned_data
        return LayerRule(
            name=said["name"], people=tuple(said["people"]), unit=said["unit"], every=said["every"],
            starts_on=said["starts_on"], handover=said["handover"], ends_on=said["ends_on"],
            days=frozenset(int(day) for day in said["days"]), from_time=said["from_time"],
            until_time=said["until_time"],
        )  # fmt: skip


LayerForms = forms.formset_factory(
    LayerForm,
    extra=1,
    can_delete=True,
    can_order=True,
    max_num=LAYERS_AT_MOST,
    validate_max=True,
    absolute_max=LAYERS_AT_MOST + 1,
)


def initial_of(rules: Sequence[LayerRule]) -> list[dict[str, Any]]:
    """Stored layers for the form."""
    return [
        {
            "name": one.name, "people": ", ".join(one.people), "every": one.every, "unit": one.unit,
            "starts_on": one.starts_on, "handover": one.handover, "ends_on": one.ends_on,
            "days": [str(day) for day in sorted(one.days)], "from_time": one.from_time, "until_time": one.until_time,
        }
        for one in rules
    ]  # fmt: skip


class Editing:
    """Both forms together: the schedule's and its layers'. schedule: None for one that is to be added."""

    def __init__(self, schedule: Schedule | None, plan: Plan, data: Any = None) -> None:
        given = {"name": plan.name, "time_zone": plan.time_zone or "UTC"}
        self.form = (ScheduleForm if schedule else NewScheduleForm)(data, initial=given, prefix="schedule")
        self.layers = LayerForms(data, initial=None if data else initial_of(plan.layers), prefix="layers")

    def is_valid(self) -> bool:
        """Whether all of it can be read."""
        return all([self.form.is_valid(), self.layers.is_valid()])

    def plan(self) -> Plan:
        """What was typed, once it is valid; emptied and deleted layers are left out."""
        kept = [form for form in self.layers.ordered_forms if form.cleaned_data.get("name")]
        said = self.form.cleaned_data
        return Plan(said["name"], said["time_zone"], tuple(form.rule() for form in kept))
