"""What people type about lessons, checked before anything else looks at it."""

from typing import Any

from django import forms

from controlplane.accounts.access import holders
from controlplane.accounts.models import Person, Role
from incidents.lessons.documents import LONGEST
from incidents.models import Incident


class TextForm(forms.Form):
    """The text of a post-mortem, and the version it was made from."""

    version = forms.IntegerField(widget=forms.HiddenInput, min_value=0, max_value=2**31 - 1)
    body = forms.CharField(
        label="Text",
        strip=False,
        max_length=LONGEST + 2000,  # line ends of a browser count twice; `documents.save` counts them once
        widget=forms.Textarea(attrs={"rows": 28, "class": "mono", "spellcheck": "true"}),
        help_text="Markdown. [#12] cites entry 12 of the timeline; HTML stays text.",
    )


class ItemForm(forms.Form):
    """An action item: who may own it are those who may do something there."""

    title = forms.CharField(label="What is to be done", max_length=300)
    owner = forms.ChoiceField(label="By whom")
    due_on = forms.DateField(label="Until when", widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"))
    verification = forms.CharField(label="How one will know that it worked", max_length=300)

    def __init__(self, *args: Any, incident: Incident, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = holders(Role.OPERATOR, incident.environments)
        self._people = {person.username: person for person in people}
        self.fields["owner"].choices = [(one.username, one.title_name) for one in people]  # type: ignore[attr-defined]

    def clean_owner(self) -> Person:
        """The person of that name."""
        return self._people[self.cleaned_data["owner"]]
