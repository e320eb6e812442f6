"""What people send to the pages of people and tokens. Every field is named here; anything else is not looked at."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.contrib.auth.validators import UnicodeUsernameValidator

from controlplane.accounts.models import EVERYWHERE, Person, Role

LIFETIMES = [(7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "a year")]
ROLES = [("", "no role"), *Role.choices]


class SignInForm(AuthenticationForm):
    """Django's own, which would let a name of any length through to the count of failures, whose column has an end."""

    username = UsernameField(max_length=150, widget=forms.TextInput(attrs={"autofocus": True}))


class PersonForm(forms.Form):
    """Add somebody."""

    username = forms.CharField(
        max_length=150,
        validators=[UnicodeUsernameValidator()],
        help_text="For signing in; it stays the same. Letters, digits and @ . + - _",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    name = forms.CharField(max_length=150, help_text="As others know them: it is what every history shows.")
    email = forms.EmailField(required=False, label="E-mail")

    def clean_username(self) -> str:
        """A name that nobody has, in whatever case."""
        username = str(self.cleaned_data["username"])
        if Person.objects.filter(username__iexact=username).exists():
            raise forms.ValidationError(f"There is a person {username} already.")
        return username


class ReasonForm(forms.Form):
    """Why something is done to somebody."""

    reason = forms.CharField(max_length=2000, help_text="Kept in the audit trail for good.")

    def __init__(self, data: Mapping[str, Any] | None = None, *, suffix: str = "") -> None:
        """suffix: of the fields' ids, where a page has several forms."""
        super().__init__(data, auto_id=f"id_%s{suffix}")


class DeleteForm(ReasonForm):
    """Delete somebody: meant, not slipped."""

    confirm = forms.CharField(widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}))

    def __init__(self, data: Mapping[str, Any] | None = None, *, person: Person, suffix: str = "") -> None:
        super().__init__(data, suffix=suffix)
        self.username = person.username
        self.fields["confirm"].label = f"Type {person.username} to show that you mean it"

    def clean_confirm(self) -> str:
        """The username, as on the page."""
        if str(self.cleaned_data["confirm"]).strip() != self.username:
            raise forms.ValidationError(f"This deletes {self.username}: type that name.")
        return self.username


class RolesForm(ReasonForm):
    """One role for each environment, and one for everywhere."""

    def __init__(
        self, data: Mapping[str, Any] | None = None, *, scopes: Sequence[str], held: Mapping[str, str], suffix: str = ""
    ) -> None:
        super().__init__(data, suffix=suffix)
        self._scopes = [EVERYWHERE, *sorted({*scopes, *held} - {EVERYWHERE})]
        for scope in self._scopes:
            label = "Everywhere" if scope == EVERYWHERE else scope
            self.fields[f"role-{scope}"] = forms.ChoiceField(
                choices=ROLES, required=False, label=label, initial=held.get(scope, "")
            )
        self.order_fields([*(f"role-{scope}" for scope in self._scopes), "reason"])

    def roles(self) -> list[forms.BoundField]:
        """The fields of the environments."""
        return [self[f"role-{scope}"] for scope in self._scopes]

    def grants(self) -> dict[str, Role]:
        """What was chosen, by scope."""
        chosen = {scope: self.cleaned_data[f"role-{scope}"] for scope in self._scopes}
        return {scope: Role(role) for scope, role in chosen.items() if role}


class TokenForm(forms.Form):
    """Make a token. roles: what may be given, weakest first."""

    name = forms.CharField(max_length=100, help_text="What will use it: it is shown as “api token NAME” in histories.")
    role = forms.ChoiceField(help_text="At most this role, wherever you have it.")
    lifetime_days = forms.TypedChoiceField(label="Valid for", choices=LIFETIMES, coerce=int, initial=30)

    def __init__(self, data: Mapping[str, Any] | None = None, *, roles: Sequence[Role]) -> None:
        super().__init__(data)
        role = self.fields["role"]
        assert isinstance(role, forms.ChoiceField)
        role.choices = [(role.value, role.label) for role in roles]
