"""What people type about disaster recovery, checked before anything else looks at it."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms

from backups.disaster.databases import DATABASES
from backups.disaster.faults import FAULTS
from backups.disaster.traffic import TRAFFIC
from backups.disaster.uploads import UPLOADS
from backups.models import RecoveryPlan
from backups.schedules import problem_with_schedule, problem_with_zone
from environments.models import Placement

LONGEST = 2000
MINUTE = 60
LARGEST = 2**31 - 1
MOST_APPROVALS = 5
MOST_INSTANCES = 1000
DRIVERS: dict[str, Mapping[str, Any]] = {"database": DATABASES, "traffic": TRAFFIC, "uploads": UPLOADS}


class MoveForm(forms.Form):
    """What a failover and a failback take: what people see, why, and the name as proof that it is meant."""

    words = forms.CharField(max_length=LONGEST, label="What you see", widget=forms.Textarea(attrs={"rows": 3}))
    reason = forms.CharField(
        max_length=LONGEST,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Shown to whoever approves it, and kept for good.",
    )
    confirm = forms.CharField(widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:
        """name: of the environment that people leave; it has to be typed."""
        super().__init__(*args, **kwargs)
        self.name = name
        self.fields["confirm"].label = f"Type {name} to show that you mean it"

    def clean_confirm(self) -> str:
        """The environment's name, as on the page."""
        typed = str(self.cleaned_data["confirm"]).strip()
        if typed.lower() != self.name.lower():
            raise forms.ValidationError(f"This takes people away from {self.name}: type its name.")
        return typed


class FailoverForm(MoveForm):
    """The same with the restore point that was read, and an incident if the glass is to be broken."""

    point = forms.CharField(max_length=500, widget=forms.HiddenInput)
    incident = forms.IntegerField(
        required=False, min_value=1, max_value=2**53, label="Incident, to break the glass",
        help_text="Its number. With an open P1 of this site, one more operator is enough; an approver need not wake.",
    )  # fmt: skip
    field_order = ("point", "words", "reason", "incident", "confirm")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["words"].help_text = "In your own words: probes alone never decide on a failover."


class FailbackForm(MoveForm):
    """The way home."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["words"].help_text = "How you know that the old side is well again."


class DrillForm(forms.Form):
    """A rehearsal; with faults, a game day."""

    reason = forms.CharField(max_length=LONGEST, label="Why", widget=forms.TextInput(attrs={"autocomplete": "off"}))
    faults = forms.MultipleChoiceField(
        required=False, choices=list(FAULTS.items()), widget=forms.CheckboxSelectMultiple, label="Break on purpose"
    )


class PlainJson(forms.JSONField):
    """JSON that PostgreSQL can keep: no NUL, no half characters, no NaN, and not deeper than anybody reads."""

    def to_python(self, value: Any) -> Any:
        """Raises ValidationError in words, whatever was typed."""
        try:
            found = super().to_python(value)
            text = json.dumps(found, allow_nan=False, ensure_ascii=False)
            text.encode()
        except (RecursionError, ValueError) as error:
            raise forms.ValidationError(
                "It has a number or a character that cannot be kept, or is too deep."
            ) from error
        if "\\u0000" in json.dumps(found):
            raise forms.ValidationError("It has a NUL character in it, which cannot be kept.")
        if found is not None and not isinstance(found, dict):
            raise forms.ValidationError('Write an object: {"kind": …}.')
        return found or {}

    def bound_data(self, data: Any, initial: Any) -> Any:
        """As it was typed, whether or not it can be read."""
        return data

    def prepare_value(self, value: Any) -> Any:
        """Laid out to be read; what could not be read stays as it was typed."""
        return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _json(label: str, hint: str, rows: int = 8) -> PlainJson:
    widget = forms.Textarea(attrs={"rows": rows, "spellcheck": "false"})
    return PlainJson(required=False, label=label, help_text=hint, widget=widget)


def _lines(label: str, hint: str) -> forms.CharField:
    widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false"})
    return forms.CharField(required=False, max_length=10_000, label=label, help_text=hint, widget=widget)


class PlanForm(forms.Form):
    """Everything of a plan but its two sides, which are declared. Its names are those of the columns, where it can."""

    name = forms.CharField(max_length=100)
    rto_minutes = forms.IntegerField(
        min_value=1, max_value=LARGEST // MINUTE, label="RTO: people are served again within, in minutes"
    )
    rpo_minutes = forms.IntegerField(
        min_value=1, max_value=LARGEST // MINUTE, label="RPO: at most so much may be lost, in minutes"
    )
    approvals_required = forms.IntegerField(
        min_value=1, max_value=MOST_APPROVALS, label="Approvals for a failover", help_text="Of others than who asks."
    )
    services = _lines("Services", "One a line, with how many of it the other side starts: pitchey-backend 3")
    checks = _lines(
        "Checks", "One a line, each to answer true. Such as “there are users: SELECT count(*) > 0 FROM users”."
    )
    tell = _lines("People to tell", "Channels and contacts, one a line.")
    drill_schedule = forms.CharField(
        required=False, max_length=100, label="Drills by schedule (cron)", help_text="Empty: none."
    )
    drill_time_zone = forms.CharField(max_length=60, label="Time zone of the schedule")
    database = _json("Database", "The driver and what it needs; secrets as references, never as values.", 12)
    traffic = _json("Traffic", "How people are sent to one side or the other.", 10)
    uploads = _json("Uploads", "Empty: there are none.")
    configuration = _json("Configuration", "What the other side's variables become.", 4)
    reason = forms.CharField(max_length=LONGEST, label="Why", help_text="Kept in the audit trail.")

    def __init__(self, *args: Any, plan: RecoveryPlan, **kwargs: Any) -> None:
        self.plan = plan
        super().__init__(*args, **{"initial": typed(plan), **kwargs})

    def clean_services(self) -> dict[str, int]:
        """Counts by slug; each has a place on both sides."""
        counts: dict[str, int] = {}
        for line in _of(self.cleaned_data["services"]):
            slug, _, number = line.replace("=", " ").replace(":", " ").partition(" ")
            count = _count(number.strip())
            if not 1 <= count <= MOST_INSTANCES:
                raise forms.ValidationError(f"“{line}”: write the service and how many of it, such as {slug} 3.")
            if slug in counts:
                raise forms.ValidationError(f"{slug} stands there twice.")
            counts[slug] = count
        sides = [self.plan.primary, self.plan.standby]
        placed = Placement.objects.filter(environment__in=sides, service__slug__in=counts)
        there = set(placed.values_list("service__slug", "environment_id"))
        for slug in counts:
            for side in sides:
                if (slug, side.pk) not in there:
                    raise forms.ValidationError(f"{slug} has no place in {side.slug}. Declare it there first.")
        return counts

    def clean_checks(self) -> list[dict[str, str]]:
        """A name and a question in SQL."""
        found = []
        for line in _of(self.cleaned_data["checks"]):
            name, colon, sql = line.partition(":")
            if not (colon and name.strip() and sql.strip()):
                raise forms.ValidationError(f"“{line[:80]}”: write a name, a colon and a question in SQL.")
            found.append({"name": name.strip(), "sql": sql.strip()})
        return found

    def clean_tell(self) -> list[str]:
        """One a line."""
        return _of(self.cleaned_data["tell"])

    def clean_drill_schedule(self) -> str:
        """Cron text, or nothing."""
        text = str(self.cleaned_data["drill_schedule"]).strip()
        if text and (words := problem_with_schedule(text)):
            raise forms.ValidationError(f"“{text}” {words}.")
        return text

    def clean_drill_time_zone(self) -> str:
        """The name of a zone."""
        text = str(self.cleaned_data["drill_time_zone"])
        if words := problem_with_zone(text):
            raise forms.ValidationError(f"“{text}” {words}.")
        return text

    def clean_database(self) -> dict[str, Any]:
        """As its driver wants it."""
        return self._checked("database")

    def clean_traffic(self) -> dict[str, Any]:
        """As its driver wants it."""
        return self._checked("traffic")

    def clean_uploads(self) -> dict[str, Any]:
        """As its driver wants it; or nothing."""
        return self._checked("uploads") if self.cleaned_data["uploads"] else {}

    def clean_configuration(self) -> dict[str, Any]:
        """Texts by name."""
        given: dict[str, Any] = self.cleaned_data["configuration"]
        if wrong := [name for name, value in given.items() if not isinstance(value, str)]:
            raise forms.ValidationError(f"{', '.join(wrong)}: give each variable a text.")
        return given

    def _checked(self, part: str) -> dict[str, Any]:
        given: dict[str, Any] = self.cleaned_data[part]
        drivers, kind = DRIVERS[part], given.get("kind")
        if not isinstance(kind, str) or kind not in drivers:
            raise forms.ValidationError(
                f'"kind" has to be one of: {", ".join(sorted(drivers)) or "none is installed"}.'
            )
        if wrong := drivers[kind].check_settings({name: value for name, value in given.items() if name != "kind"}):
            raise forms.ValidationError([f"{name}: {words}" for name, words in sorted(wrong.items())])
        return given

    def values(self) -> dict[str, Any]:
        """The plan's columns as they are wanted, once it is valid."""
        said = {name: value for name, value in self.cleaned_data.items() if name != "reason"}
        for name in ("rto", "rpo"):
            said[f"{name}_seconds"] = said.pop(f"{name}_minutes") * MINUTE
        return said

    def changed_values(self) -> dict[str, Any]:
        """Of these, only what is different now. A promise in seconds stays what it is while its minutes do."""
        kept = {name for name in ("rto", "rpo") if f"{name}_minutes" not in self.changed_data}
        return {
            name: value
            for name, value in self.values().items()
            if getattr(self.plan, name) != value and name.removesuffix("_seconds") not in kept
        }


def typed(plan: RecoveryPlan) -> dict[str, Any]:
    """A plan as its form shows it."""
    same = ("name", "approvals_required", "drill_schedule", "drill_time_zone", "database", "traffic", "uploads",
            "configuration")  # fmt: skip
    return {name: getattr(plan, name) for name in same} | {
        "rto_minutes": max(1, round(plan.rto_seconds / MINUTE)),
        "rpo_minutes": max(1, round(plan.rpo_seconds / MINUTE)),
        "services": "\n".join(f"{slug} {count}" for slug, count in plan.services.items()),
        "checks": "\n".join(f"{one['name']}: {one['sql']}" for one in plan.checks),
        "tell": "\n".join(plan.tell),
    }


def _count(text: str) -> int:
    """0 for what is no number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else 0


def _of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
