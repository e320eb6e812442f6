"""What people type about the matrix, checked before anything else looks at it."""

from typing import Any

from django import forms

from controlplane.accounts.models import Person
from incidents.matrix_reach import KINDS, LONGEST, cleaned, problem_with_address
from incidents.matrix_services import LEVELS_AT_MOST, LONGEST_SECONDS, LevelPlan, PolicyPlan, problem_with_times
from incidents.models import Channel, ChannelKind, EscalationPolicy, Schedule, Severity

SCHEDULE = "schedule:"


class PolicyFields(forms.Form):
    """A policy without its levels."""

    name = forms.CharField(max_length=100)
    severities = forms.MultipleChoiceField(
        choices=Severity.choices, required=False, widget=forms.CheckboxSelectMultiple
    )
    repeats = forms.IntegerField(min_value=0, max_value=20, label="Go through it again, times",
                                 help_text="When nobody has acknowledged. 0: once is all.")  # fmt: skip
    repeat_after = forms.IntegerField(
        min_value=1, max_value=LONGEST_SECONDS // 60, label="Minutes after the last level"
    )
    reason = forms.CharField(max_length=2000, label="Why", help_text="Kept in the audit trail.")


class PolicyForm(PolicyFields):
    """One that there is. shown: the digest of what was on the page."""

    shown = forms.CharField(widget=forms.HiddenInput)


class NewPolicyForm(PolicyFields):
    """One more, with its short name, which no other policy has."""

    slug = forms.SlugField(max_length=60, label="Short name", help_text="As in matrix, or nights.")
    field_order = ("slug", "name")


class LevelForm(forms.Form):
    """A row of the matrix."""

    role = forms.CharField(max_length=100)
    after = forms.IntegerField(min_value=0, max_value=LONGEST_SECONDS // 60, label="After minutes",
                               help_text="Since the opening; 0 is at once.")  # fmt: skip
    targets = forms.CharField(max_length=500, label="Who", help_text="As in schedule:primary, or carol; or several.")
    channels = forms.CharField(max_length=200, label="By", help_text="In the order of trying: phone, sms")

    def clean_targets(self) -> list[tuple[str, str]]:
        """Schedules and active people that there are."""
        schedules = set(Schedule.objects.values_list("slug", flat=True))
        people = {one.lower(): one for one in Person.objects.filter(is_active=True).values_list("username", flat=True)}
        found = []
        for word in split(self.cleaned_data["targets"]):
            slug = word.removeprefix(SCHEDULE).strip()
            if word.startswith(SCHEDULE) and slug in schedules:
                found.append(("schedule", slug))
            elif word.lower() in people:
                found.append(("person", people[word.lower()]))
            elif word.startswith(SCHEDULE):
                known = ", ".join(sorted(schedules)) or "none yet"
                raise forms.ValidationError(f"There is no schedule {slug}; there are: {known}.")
            else:
                raise forms.ValidationError(f"There is nobody active called {word}; for a schedule write {SCHEDULE}…")
        return list(dict.fromkeys(found))

    def clean_channels(self) -> list[str]:
        """Kinds that are known, and configured."""
        configured = set(Channel.objects.values_list("kind", flat=True))
        found = [word.lower() for word in split(self.cleaned_data["channels"])]
        for word in found:
            if word not in ChannelKind.values:
                raise forms.ValidationError(f"{word} is no channel; there are: {', '.join(ChannelKind.values)}.")
            if word not in configured:
                known = ", ".join(sorted(configured)) or "none yet"
                raise forms.ValidationError(
                    f"{word} is not configured, so nothing would leave by it; there are: {known}."
                )
        return list(dict.fromkeys(found))

    def plan(self) -> LevelPlan:
        """What was typed, once it is valid."""
        said = self.cleaned_data
        return LevelPlan(said["role"], said["after"] * 60, tuple(said["targets"]), tuple(said["channels"]))


def split(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


LevelForms = forms.formset_factory(
    LevelForm, extra=1, can_delete=True, max_num=LEVELS_AT_MOST, validate_max=True, absolute_max=LEVELS_AT_MOST + 1
)


class PolicyEditing:
    """Both forms together. policy: None for one that is to be added."""

    def __init__(self, policy: EscalationPolicy | None, shown: str = "", data: Any = None) -> None:
        like = policy or EscalationPolicy()
        given = {"name": like.name, "severities": like.severities, "repeats": like.repeats,
                 "repeat_after": like.repeat_after_seconds // 60, "shown": shown}  # fmt: skip
        rows = [
            {"role": one.role, "after": one.after_seconds // 60, "channels": ", ".join(one.channels),
             "targets": ", ".join(word_of(target) for target in one.targets)}
            for one in (policy.levels.all() if policy else ())
        ]  # fmt: skip
        self.form = (PolicyForm if policy else NewPolicyForm)(data, initial=given)
        self.levels = LevelForms(data, initial=None if data else rows, prefix="levels")

    def is_valid(self) -> bool:
        """Whether all of it can be read, and the levels come one after the other."""
        if not all([self.form.is_valid(), self.levels.is_valid()]):
            return False
        if words := problem_with_times(self.plan().levels):
            self.form.add_error(None, f"{words[0].upper()}{words[1:]}.")
            return False
        return True

    def plan(self) -> PolicyPlan:
        """What was typed, once it is valid."""
        said = self.form.cleaned_data
        kept = [one for one in self.levels.forms if one.cleaned_data.get("role") and not one.cleaned_data.get("DELETE")]
        return PolicyPlan(said["name"], tuple(said["severities"]), said["repeats"], said["repeat_after"] * 60,
                          tuple(one.plan() for one in kept))  # fmt: skip


def word_of(target: dict[str, str]) -> str:
    """A stored target as people write it."""
    return f"{SCHEDULE}{target['schedule']}" if "schedule" in target else target.get("person", "")


class ReachForm(forms.Form):
    """The addresses of one person, each kind one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in KINDS:
            self.fields[kind.value] = forms.CharField(max_length=LONGEST, required=False, label=kind.label.capitalize())
        self.fields["sms"].label = "SMS"
        self.fields["reason"] = forms.CharField(max_length=2000, label="Why", help_text="Kept in the audit trail.")

    def clean(self) -> dict[str, Any]:
        """Each address as its kind wants it."""
        said = super().clean() or self.cleaned_data
        for kind in KINDS:
            address = said[kind.value] = cleaned(kind, said.get(kind.value, ""))
            if address and (words := problem_with_address(kind, address)):
                self.add_error(kind.value, f"“{address}” {words}.")
        return said

    def addresses(self) -> dict[str, str]:
        """By kind, once it is valid; "" for none."""
        return {kind.value: self.cleaned_data[kind.value] for kind in KINDS}
