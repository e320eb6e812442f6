"""The filters of the audit page, as they stand in its address."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

from controlplane.audit.listing import END, FIRST, Wanted
from controlplane.audit.models import Entry


class EntryFilter(forms.Form):
    """A filter that makes no sense is left out, and the page says so."""

    person = forms.CharField(required=False, max_length=200)
    action = forms.CharField(required=False, max_length=100)
    target = forms.CharField(required=False, max_length=500)
    scope = forms.CharField(required=False, max_length=60)
    since = forms.DateField(required=False)
    until = forms.DateField(required=False)

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.full_clean()

    def wanted(self) -> Wanted:
        """What the reader asked for."""
        said = self.cleaned_data
        condition = Q()
        if said.get("person"):
            condition &= _person(said["person"])
        if said.get("action"):
            condition &= Q(action=said["action"])
        if said.get("target"):
            condition &= Q(target__iexact=said["target"])
        until = said.get("until")
        return Wanted(
            condition,
            first=_first_id(said["since"]) if said.get("since") else FIRST,
            end=_first_id(until + timedelta(days=1)) if until and until < date.max else END,
            scope=said.get("scope", ""),
        )


def _person(text: str) -> Q:
    """A username means that person, under whatever names; anything else is a name as it was written down."""
    person = get_user_model().objects.filter(username__iexact=text).first()
    return Q(actor_id=person.pk) if person else Q(actor__iexact=text)


def _first_id(day: date) -> int:
    """The first entry of the day (UTC) or after it. The order of times is the order of ids; see Entry.at."""
    begin = datetime.combine(day, time.min, tzinfo=UTC)
    entries: QuerySet[Entry] = Entry.objects.filter(at__gte=begin).order_by("at", "id")
    first = entries.values_list("id", flat=True).first()
    return first if first is not None else END
