"""What may be changed of an alert rule from its page."""

from typing import Any

from django import forms

from environments.models import Environment
from incidents.models import AlertRule, ChannelKind
from incidents.rules.conditions import ConditionError, parse
from incidents.rules.durations import seconds_of, written
from incidents.rules.tree import printed


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """Condition, duration, severity, whom to notify, where it watches. caret: of a condition that is not understood."""

    duration = forms.CharField(
        max_length=20, label="For", help_text="How long it must hold before it fires: 5m, 90s, 1h30m; 0s is at once."
    )
    notify = forms.MultipleChoiceField(
        choices=ChannelKind.choices, required=False, label="Notify", widget=forms.CheckboxSelectMultiple
    )
    environments = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Environments",
        help_text="None means all in which something was ever deployed.",
    )  # fmt: skip
    reason = forms.CharField(max_length=2000, label="Why", help_text="Kept in the audit trail.")
    field_order = ("condition", "duration", "severity", "notify", "environments", "summary", "reason")

    class Meta:
        model = AlertRule
        fields = ["condition", "severity", "notify", "environments", "summary"]
        labels = {"condition": "Condition", "severity": "Severity", "summary": "Summary"}
        widgets = {"condition": forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.caret = ""
        self.fields["duration"].initial = written(self.instance.for_seconds)
        choices = self.fields["environments"]
        assert isinstance(choices, forms.MultipleChoiceField)
        choices.choices = list(Environment.objects.values_list("slug", "name"))

    def clean_condition(self) -> str:
        """The condition as its tree prints it."""
        text = str(self.cleaned_data["condition"])
        try:
            return printed(parse(text))
        except ConditionError as error:
            self.caret = error.caret
            raise forms.ValidationError(f"Character {error.position + 1}: {error.words}") from None

    def clean_duration(self) -> int:
        """In seconds."""
        text = str(self.cleaned_data["duration"])
        try:
            return seconds_of(text)
        except ValueError as error:
            raise forms.ValidationError(f"“{text}” {error}.") from None

    def changed_values(self) -> dict[str, Any]:
        """Only what is different now, once it is valid, as the model has it."""
        values = {name: self.cleaned_data[name] for name in self.Meta.fields}
        values["for_seconds"] = self.cleaned_data["duration"]
        before = AlertRule.objects.get(pk=self.instance.pk)
        return {name: value for name, value in values.items() if getattr(before, name) != value}
