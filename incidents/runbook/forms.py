"""What people type about contacts."""

from django import forms

from incidents.models import Contact


class ContactForm(forms.ModelForm):  # type: ignore[type-arg]
    """A contact; at least one way to reach them."""

    url = forms.URLField(label="Address on the web", required=False, max_length=300, assume_scheme="https")

    class Meta:
        model = Contact
        fields = ["name", "email", "phone", "url", "how", "position"]
        labels = {"how": "How one reaches them", "position": "Place in the list"}

    def clean(self) -> None:
        """Somebody whom one cannot reach is no contact."""
        super().clean()
        ways = ("email", "phone", "url", "how")
        if not self.errors and not any(self.cleaned_data.get(name) for name in ways):
            raise forms.ValidationError("Give at least one way to reach them: e-mail, phone, address, or how.")


class NewContactForm(ContactForm):
    """One more, with its short name."""

    class Meta(ContactForm.Meta):
        fields = ["slug", *ContactForm.Meta.fields]
        labels = {**ContactForm.Meta.labels, "slug": "Short name, as in aws-support"}
