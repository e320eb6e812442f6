"""What people send to the pages of deployments."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.db.models import Q

from controlplane.operations.search import words_query
from controlplane.operations.states import State
from controlplane.web.moments import MomentField
from deployments.models import Release
from environments.models import Environment


class RequestForm(forms.Form):
    """Ask for a deployment or a rollback: why, when, and, where approvals are needed, the environment's name."""

    release = forms.ModelChoiceField(Release.objects.select_related("service"), widget=forms.HiddenInput)
    plan_digest = forms.CharField(widget=forms.HiddenInput)
    strategy = forms.CharField(required=False, widget=forms.HiddenInput)
    reason = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Shown to whoever approves it, and kept for good.",
    )
    scheduled_for = MomentField(required=False, label="Planned start (UTC)", help_text="Empty: as soon as it may.")
    start_by = MomentField(
        required=False,
        label="Not later than (UTC)",
        help_text="Not started by then, it expires. Empty: it waits as long as it has to.",
    )
    confirm = forms.CharField(required=False, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, environment: Environment, approvals: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.environment = environment
        if approvals == 0:
            del self.fields["confirm"]
            return
        self.fields["confirm"].label = f"Type {environment.slug} to show that you mean it"
        self.fields["confirm"].required = True

    def clean_confirm(self) -> str:
        """The environment's name, as on the page."""
        typed = str(self.cleaned_data["confirm"]).strip()
        if typed.lower() not in (self.environment.slug.lower(), self.environment.name.lower()):
            raise forms.ValidationError(f"This changes {self.environment.slug}: type its name.")
        return typed


class AdoptionForm(RequestForm):
    """Ask for what runs to be taken for what was deployed: why, and where approvals are needed, the name."""

    release = None  # type: ignore[assignment]
    strategy = None  # type: ignore[assignment]
    scheduled_for = None  # type: ignore[assignment]
    start_by = None  # type: ignore[assignment]


class DeploymentFilter(forms.Form):
    """The filters of the list of deployments, as they stand in its address."""

    q = forms.CharField(required=False, max_length=200)
    environment = forms.SlugField(required=False)
    service = forms.SlugField(required=False)
    state = forms.ChoiceField(required=False, choices=[("", "any state"), *State.choices])
    person = forms.CharField(required=False, max_length=200)
    since = forms.DateField(required=False)
    until = forms.DateField(required=False)

    def condition(self) -> Q:
        """The rows wanted. A filter that cannot be read is left out, and its field says so."""
        self.is_valid()
        wanted = {name: value for name, value in self.cleaned_data.items() if value}
        conditions: dict[str, Callable[[Any], Q]] = {
            "q": lambda words: Q(operation__search=words_query(words)),
            "environment": lambda slug: Q(environment__slug=slug),
            "service": lambda slug: Q(release__service__slug=slug),
            "state": lambda state: Q(operation__state=state),
            "person": lambda name: Q(operation__search=words_query(name), operation__requested_by_name__iexact=name),
            "since": lambda day: Q(operation__requested_at__date__gte=day),
            "until": lambda day: Q(operation__requested_at__date__lte=day),
        }
        condition = Q()
        for name, value in wanted.items():
            condition &= conditions[name](value)
        return condition
