"""The list of incidents: what is not over first, by severity and age; then what was, page by page."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from django import forms
from django.db.models import OuterRef, Q
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.operations import attached
from controlplane.operations.keyset import Page, page_of
from controlplane.operations.search import words_query
from incidents.access import visible_incidents
from incidents.escalation.clock import NOBODY_SECONDS
from incidents.models import Incident, Level, Severity
from incidents.reached import whom

# What was found for somebody is kept on their Actor, who lives for one request: the navigation counts it again.
KEPT = "unresolved incidents"
# More than this is not read by anybody; the filters help then.
OPEN_AT_MOST = 200


class IncidentFilter(forms.Form):
    """The filters, as they stand in the address."""

    q = forms.CharField(required=False, max_length=200)
    severity = forms.ChoiceField(required=False, choices=[("", "any severity"), *Severity.choices])
    environment = forms.SlugField(required=False)
    state = forms.ChoiceField(required=False, choices=[("", "any state"), *Incident.State.choices])
    since = forms.DateField(required=False)
    until = forms.DateField(required=False)  # this day included

    def condition(self) -> Q:
        """The rows wanted. A filter that cannot be read is left out."""
        self.is_valid()
        wanted = Q()
        if words := self.cleaned_data.get("q"):
            wanted &= Q(search=words_query(words))
        if severity := self.cleaned_data.get("severity"):
            wanted &= Q(severity=severity)
        if environment := self.cleaned_data.get("environment"):
            wanted &= Q(environments__contains=[environment])
        if state := self.cleaned_data.get("state"):
            wanted &= Q(state=state)
        if since := self.cleaned_data.get("since"):
            wanted &= Q(opened_at__gte=datetime.combine(since, time.min, UTC))
        if until := self.cleaned_data.get("until"):
            wanted &= Q(opened_at__lte=datetime.combine(until, time.max, UTC))
        return wanted


@dataclass(frozen=True)
class Row:
    """One incident that is not over, and whom its escalation reaches next."""

    incident: Incident
    following: Level | None

    @property
    def whom(self) -> str:
        """Whom that is; "" when nobody is paged any more."""
        return whom(self.following) if self.following else ""

    @property
    def nobody_notified(self) -> bool:
        """Its policy should have reached somebody by now."""
        return nobody_notified(self.incident)


@dataclass(frozen=True)
class Listing:
    """Everything on the page."""

    unresolved: list[Row]
    resolved: Page[Incident]


def nobody_notified(incident: Incident) -> bool:
    """Open for a while with a policy that names people, and not one page was accepted by any channel."""
    late = timezone.now() - incident.opened_at > timedelta(seconds=NOBODY_SECONDS)
    return incident.state == Incident.State.OPEN and incident.notified_at is None and late and bool(incident.policy)


def listing(actor: Actor, wanted: Q, before: int, after: int) -> Listing:
    """What this person sees, in a fixed number of queries."""
    over = visible_incidents(actor).filter(wanted, state=Incident.State.RESOLVED)
    return Listing([] if before or after else unresolved(actor, wanted), page_of(over, before, after))


def unresolved(actor: Actor, wanted: Q | None = None) -> list[Row]:
    """What is not over, the worst first, then what nobody has, then the oldest: one query."""
    pending = Level.objects.filter(incident=OuterRef("pk"), state=Level.State.PENDING).order_by("due_at", "number")
    rows = visible_incidents(actor).exclude(state=Incident.State.RESOLVED).filter(wanted or Q())
    rows = rows.defer(None).defer("search")  # whether there is a policy is shown
    found = rows.select_related("commander").annotate(following=attached.rows(pending[:1]))
    ordered = list(found.order_by("severity", "-state", "opened_at")[:OPEN_AT_MOST])
    if not wanted and len(ordered) < OPEN_AT_MOST:
        vars(actor)[KEPT] = sum(one.state == Incident.State.OPEN for one in ordered)
    return [Row(one, next(iter(attached.made_of(Level, vars(one)["following"])), None)) for one in ordered]


def unacknowledged(actor: Actor) -> int:
    """How many incidents nobody has."""
    known: int | None = vars(actor).get(KEPT)
    return visible_incidents(actor).filter(state=Incident.State.OPEN).count() if known is None else known
