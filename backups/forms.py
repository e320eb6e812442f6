"""What people type about backups, checked before anything else looks at it."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator
from django.db.models import Q

from backups.models import Backup, Kind, Policy, Restore
from backups.restore_services import TARGETS, Wish, files_in_use
from backups.retention import LONGEST
from backups.schedules import problem_with_schedule, problem_with_zone
from controlplane.operations.search import words_query
from controlplane.web.moments import MomentField


class CatalogFilter(forms.Form):
    """The filters of the catalog, as they stand in its address."""

    q = forms.CharField(required=False, max_length=200)
    environment = forms.SlugField(required=False)
    policy = forms.SlugField(required=False)
    kind = forms.ChoiceField(required=False, choices=[("", "any kind"), *Kind.choices])
    verdict = forms.ChoiceField(
        required=False,
        choices=[("", "tested or not"), ("proven", "verified"), ("failed", "did not restore"), ("none", "not tested")],
    )
    state = forms.ChoiceField(
        required=False, choices=[("", "that are there"), ("all", "also deleted ones"), ("held", "held")]
    )
    since = forms.DateField(required=False)
    until = forms.DateField(required=False)

    def condition(self) -> Q:
        """The rows wanted. A filter that cannot be read is left out, and its field says so."""
        self.is_valid()
        wanted = {name: value for name, value in self.cleaned_data.items() if value}
        conditions: dict[str, Callable[[Any], Q]] = {
            "q": _matches,
            "environment": lambda slug: Q(environment__slug=slug),
            "policy": lambda slug: Q(policy_slug=slug),
            "kind": lambda kind: Q(kind=kind),
            "verdict": lambda verdict: Q(verdict="" if verdict == "none" else verdict),
            "state": lambda state: ~Q(hold_reason="") if state == "held" else Q(),
            "since": lambda day: Q(as_of__date__gte=day),
            "until": lambda day: Q(as_of__date__lte=day),
        }
        condition = Q() if wanted.get("state") == "all" else ~Q(state=Backup.State.DELETED)
        for name, value in wanted.items():
            condition &= conditions[name](value)
        return condition


def _matches(words: str) -> Q:
    """A location by how it begins, anything else by its words."""
    return Q(key__startswith=words.strip()) if "/" in words else Q(search=words_query(words))


class WishForm(forms.Form):
    """What somebody wants to have back, and where to: the first page of the restore, sent by GET."""

    target = forms.ChoiceField(widget=forms.RadioSelect, label="Where to")
    moment = MomentField(required=False, label="To which moment (UTC)", seconds=True)
    database = forms.CharField(required=False, max_length=49, label="Name of the database")
    schema = forms.CharField(required=False, max_length=63, label="Only this schema")
    table = forms.CharField(required=False, max_length=127, label="Only this table")
    folder = forms.CharField(required=False, max_length=200, label="Name of the folder")

    def __init__(self, *args: Any, backup: Backup, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        targets = TARGETS[backup.kind]
        self.fields["target"].choices = [(one, Restore.Target(one).label) for one in targets]  # type: ignore[attr-defined]
        if len(targets) == 1:
            self.fields["target"].initial = targets[0]
        is_database = backup.kind in (Kind.DATABASE, Kind.PITR)
        for name, kept in (
            ("moment", backup.kind == Kind.PITR),
            ("database", is_database),
            ("schema", is_database),
            ("table", is_database),
            ("folder", backup.kind in (Kind.UPLOADS, Kind.IMAGES)),
        ):
            if not kept:
                del self.fields[name]
        named = backup.manifest.get("facts", {}).get("database", "")
        of = f"; this backup is of {named}" if named else ""
        in_use = files_in_use(backup.policy) if backup.policy else "use"
        hints = {
            "moment": "Empty: as far as this backup itself reaches.",
            "database": f"For a new one, or the one to replace{of}.",
            "schema": "Empty: all of them.",
            "table": "As in users, or public.users. Empty: all of them.",
            "folder": "Made below the folder “restored” of the data folder."
            + (f" Empty: over the files in {in_use}." if backup.kind == Kind.UPLOADS else ""),
        }
        for name, field in self.fields.items():
            field.help_text = hints.get(name, "")

    def wish(self) -> Wish:
        """What was typed, once it is valid."""
        said = self.cleaned_data
        return Wish(
            target=said["target"], moment=said.get("moment"), database=said.get("database", "").strip(),
            folder=said.get("folder", "").strip(), schema=said.get("schema", "").strip(),
            table=said.get("table", "").strip(),
        )  # fmt: skip


class AskForm(forms.Form):
    """The last page of a restore: the plan that was read, why, and, where it is live, the name as proof of intent."""

    plan_digest = forms.CharField(widget=forms.HiddenInput)
    reason = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Shown to whoever approves it, and kept for good.",
    )
    confirm = forms.CharField(required=False, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:
        """name: what has to be typed; "" where nothing in use is changed."""
        super().__init__(*args, **kwargs)
        self.name = name
        if not name:
            del self.fields["confirm"]
            return
        self.fields["confirm"].label = f"Type {name} to show that you mean it"
        self.fields["confirm"].required = True

    def clean_confirm(self) -> str:
        """The environment's name, as on the page."""
        typed = str(self.cleaned_data["confirm"]).strip()
        if typed.lower() != self.name.lower():
            raise forms.ValidationError(f"This changes {self.name}: type its name.")
        return typed


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]
    """What may be changed of a policy from its page; what it backs up, and where to, is declared in the file."""

    reason = forms.CharField(max_length=2000, label="Why", help_text="Kept in the audit trail.")

    class Meta:
        model = Policy
        fields = [
            "schedule", "time_zone", "rpo_seconds", "rto_seconds", "keep_days", "keep_last", "keep_daily",
            "keep_weekly", "keep_monthly", "keep_yearly", "proof", "proof_schedule",
        ]  # fmt: skip
        labels = {
            "schedule": "Schedule (cron)", "rpo_seconds": "At most so many seconds may be lost",
            "rto_seconds": "A restore may take so many seconds", "keep_days": "Keep for days",
            "keep_last": "Keep the last", "keep_daily": "Keep one a day, for days",
            "keep_weekly": "Keep one a week, for weeks", "keep_monthly": "Keep one a month, for months",
            "keep_yearly": "Keep one a year, for years", "proof": "Restore test",
            "proof_schedule": "Schedule of the restore test (cron)",
        }  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            if name.startswith("keep_"):
                field.validators.append(MaxValueValidator(LONGEST))
                field.widget.attrs["max"] = LONGEST

    def changed_values(self) -> dict[str, Any]:
        """Only what is different now, once it is valid."""
        return {name: self.cleaned_data[name] for name in self.changed_data if name != "reason"}

    def clean_schedule(self) -> str:
        """Cron text."""
        return _checked(self.cleaned_data["schedule"], problem_with_schedule)

    def clean_proof_schedule(self) -> str:
        """Cron text, also where tests come after each backup."""
        return _checked(self.cleaned_data["proof_schedule"], problem_with_schedule)

    def clean_time_zone(self) -> str:
        """The name of a zone."""
        return _checked(self.cleaned_data["time_zone"], problem_with_zone)


def _checked(text: str, problem_with: Callable[[str], str]) -> str:
    if words := problem_with(text):
        raise forms.ValidationError(f"“{text}” {words}.")
    return text
