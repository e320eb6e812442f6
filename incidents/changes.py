"""What changed before an incident: the changes most likely to blame, ranked, each with the reason in words.

1. `gather` reads what changed in the hours before the first alert: operations that ran, and from the audit trail
   changes of the configuration and of locks.
2. `score` is pure: kind, nearness in time, environment and outcome, multiplied. A nearer change never counts less
   than the same change farther away, nor one of the same environment less than the same one elsewhere.
3. `suspects` ranks them. Below BOUND nothing is said: a wrong hint costs more than none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db.models import F, Q, QuerySet
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.audit.models import Entry
from controlplane.operations.access import HEAVY, visible_operations
from controlplane.operations.models import Operation
from controlplane.operations.presentation import PUT_BACK, word_of
from controlplane.operations.states import State
from controlplane.web.templatetags.ui import duration
from deployments.models import Deployment
from environments.models import Arrival
from incidents.models import Incident, TimelineEntry

WINDOW = timedelta(hours=6)
# A change counts half as much for every so long that it lies before the first alert.
HALF_LIFE = timedelta(minutes=45)
BOUND = 0.25
AT_MOST = 200
SHOWN = 5


class What(StrEnum):
    """What kind of change it was, by how often it is to blame."""

    DEPLOYMENT = "deployment"
    ROLLBACK = "rollback"
    CONFIGURATION = "configuration"
    RESTORE = "restore"
    OPERATION = "operation"  # another one that changes something
    BACKUP = "backup"  # reads, and takes its share of the machine
    LOCK = "lock"  # changes nothing that runs


class Outcome(StrEnum):
    """How it ended. A change that stopped half-way leaves more behind than one that was put back."""

    DONE = "done"
    RUNNING = "running"
    HALF_WAY = "half-way"
    PUT_BACK = "put back"


WEIGHTS = {
    What.DEPLOYMENT: 1.0, What.ROLLBACK: 0.9, What.CONFIGURATION: 0.85, What.RESTORE: 0.75, What.OPERATION: 0.5,
    What.BACKUP: 0.2, What.LOCK: 0.05,
}  # fmt: skip
OUTCOMES = {Outcome.DONE: 0.95, Outcome.RUNNING: 1.0, Outcome.HALF_WAY: 1.0, Outcome.PUT_BACK: 0.6}
# In an environment of the incident; of the whole installation; somewhere else. An incident that names no environment
# may come from any of them.
SAME, WHOLE, ELSEWHERE, UNKNOWN = 1.0, 0.7, 0.3, 0.7

# What the audit trail calls a change of the configuration, and of a lock.
CONFIGURED = {
    "environment.configured": "configuration of {}",
    "environment.declared": "declaration of {}",
    "placement.declared": "declaration of {}",
    "service.declared": "declaration of {}",
}
LOCKED = {"environment.locked": "lock on {}", "environment.unlocked": "release of the lock on {}"}
KINDS = {"restore": What.RESTORE, "backup": What.BACKUP, "restore test": What.BACKUP, "backup clean-up": What.BACKUP}


@dataclass(frozen=True)
class Change:
    """One change. ended_at: None while it runs. environments: none means the whole installation.

    key: "operation 12" or "audit 44", the same wherever it is spoken of.
    """

    key: str
    what: What
    title: str  # "deploy of pitchey-backend 1.5.0"
    began_at: datetime
    ended_at: datetime | None
    environments: tuple[str, ...]
    outcome: Outcome = Outcome.DONE
    who: str = ""
    word: str = ""  # how it ended, as its own page says it
    url: str = ""
    # Where the way back is asked for, and what it would go back to.
    rollback_url: str = ""
    rollback_to: str = ""

    def gap(self, first: datetime) -> timedelta:
        """From its end to the first alert; none when it was still running then."""
        return max(first - self.ended_at, timedelta(0)) if self.ended_at else timedelta(0)


@dataclass(frozen=True)
class Suspect:
    """A change with its score between 0 and 1, and why."""

    change: Change
    score: float
    reason: str  # "deploy of pitchey-backend 1.5.0, finished 3 min before the first alert, same environment"


def score(change: Change, first: datetime, environments: Sequence[str]) -> float:
    """How likely the change is to blame for an incident of these environments whose first alert came at `first`.

    0 for what began after it.
    """
    if change.began_at > first:
        return 0.0
    nearness: float = 0.5 ** (change.gap(first) / HALF_LIFE)
    return WEIGHTS[change.what] * nearness * _place(change, environments) * OUTCOMES[change.outcome]


def _place(change: Change, environments: Sequence[str]) -> float:
    if not change.environments:
        return WHOLE
    if not environments:
        return UNKNOWN
    return SAME if set(change.environments) & set(environments) else ELSEWHERE


def reason(change: Change, first: datetime, environments: Sequence[str]) -> str:
    """Why it is suspected, in one sentence without its full stop."""
    ended = change.ended_at
    ran = change.ended_at != change.began_at
    if ended is None or ended > first:
        when = "was running when the first alert came"
    else:
        verb = {Outcome.PUT_BACK: "failed and was put back", Outcome.HALF_WAY: change.word or "stopped half-way"}
        when = (
            f"{verb.get(change.outcome, 'finished' if ran else 'made')} {_span(first - ended)} before the first alert"
        )
    return ", ".join([change.title, when, _where(change, environments)])


def _span(gap: timedelta) -> str:
    """Whole minutes are what people compare; below one, seconds."""
    minutes = round(gap.total_seconds() / 60)
    return f"{minutes} min" if 1 <= minutes < 60 else duration(gap)


def _where(change: Change, environments: Sequence[str]) -> str:
    if not change.environments:
        return "for the whole installation"
    names = " and ".join(change.environments)
    if not environments:
        return f"in {names}"
    if not set(change.environments) & set(environments):
        return f"but in {names}"
    return "same environment"


def ranked(changes: Iterable[Change], first: datetime, environments: Sequence[str]) -> list[Suspect]:
    """Those that could be to blame, the likeliest first; equally likely ones by time, the nearest first."""
    found = [Suspect(one, score(one, first, environments), reason(one, first, environments)) for one in changes]
    return sorted(
        (one for one in found if one.score > 0),
        key=lambda one: (-one.score, one.change.gap(first), one.change.began_at, one.change.key),
    )


def likely(suspects: Sequence[Suspect]) -> list[Suspect]:
    """Those worth saying, a few; none when the best one is not likely enough."""
    return [one for one in suspects if one.score >= BOUND][:SHOWN]


# --- Reading them -------------------------------------------------------------------------------------


def first_sign(incident: Incident) -> datetime:
    """When it was first heard of: its first alert, or its opening."""
    alerts = TimelineEntry.objects.filter(incident=incident, kind=TimelineEntry.Kind.ALERT).order_by("at", "seq")
    first = alerts.values_list("at", flat=True).first()
    return min(incident.opened_at, first) if first else incident.opened_at


def suspects(actor: Actor, incident: Incident) -> list[Suspect]:
    """What changed before it, of what this person may see, ranked; four queries. Begin with `likely`."""
    first = first_sign(incident)
    return ranked(gather(actor, first - WINDOW, first), first, incident.environments)


def most_likely(actor: Actor, incident: Incident) -> Suspect | None:
    """The one change to look at first; None when there is none that is likely enough."""
    return next(iter(likely(suspects(actor, incident))), None)


def gather(actor: Actor, since: datetime, until: datetime) -> list[Change]:
    """What ran or was changed between two times, of what this person may see; the newest ones when there are many."""
    return [*_operations(actor, since, until), *_settings(actor, since, until)]


def _operations(actor: Actor, since: datetime, until: datetime) -> list[Change]:
    rows = visible_operations(actor).filter(started_at__lte=until).filter(
        Q(finished_at=None) | Q(finished_at__gte=since)
    )  # fmt: skip
    deferred = rows.defer(*HEAVY).select_related("deployment__release__service", "deployment__environment")
    found = list(deferred.order_by("-started_at", "-pk")[:AT_MOST])
    arrivals = Arrival.objects.filter(operation__in=[one.pk for one in found], placement__changed_in=F("operation"))
    running = {one.operation_id: one for one in arrivals}
    return [change_of(one, running.get(one.pk)) for one in found]


def change_of(operation: Operation, arrival: Arrival | None = None) -> Change:
    """An operation that has started as a change. Its deployment, if it has one, is loaded with it.

    arrival: of what still runs, so that there is a way back from it.
    """
    assert operation.started_at is not None
    deployment: Deployment | None = getattr(operation, "deployment", None)
    what, title, back = KINDS.get(operation.kind, What.OPERATION), _lowered(operation.title), ("", "")
    if deployment is not None:
        is_deploy = deployment.kind == Deployment.Kind.DEPLOY
        what = What.DEPLOYMENT if is_deploy else What.ROLLBACK
        title = f"{'deploy' if is_deploy else 'rollback'} of {deployment.release}"
        back = _way_back(deployment, arrival) if is_deploy and arrival else back
    return Change(
        key=f"operation {operation.pk}", what=what, title=title, began_at=operation.started_at,
        ended_at=operation.finished_at, environments=tuple(operation.scopes), outcome=_outcome(operation),
        who=operation.requested_by_name, word=word_of(operation), url=operation.get_absolute_url(),
        rollback_url=back[0], rollback_to=back[1],
    )  # fmt: skip


def _way_back(deployment: Deployment, arrival: Arrival) -> tuple[str, str]:
    """The page that proposes it, and the version that ran before: "" when several did. Nothing when nothing did."""
    if not arrival.over_digest:
        return "", ""
    address = reverse("rollback", args=[deployment.environment.slug, deployment.release.service.slug])
    return address, arrival.over_version if " and " not in arrival.over_version else ""


def _outcome(operation: Operation) -> Outcome:
    if operation.finished_at is None:
        return Outcome.RUNNING
    if operation.state == State.SUCCEEDED:
        return Outcome.DONE
    return Outcome.PUT_BACK if operation.outcome.startswith(PUT_BACK) else Outcome.HALF_WAY


def _lowered(title: str) -> str:
    return title[:1].lower() + title[1:]


def _settings(actor: Actor, since: datetime, until: datetime) -> list[Change]:
    rows = settings_changed(since, until)
    scopes = actor.scopes(Role.VIEWER)
    if scopes is not None:
        rows = rows.filter(scopes__contained_by=scopes).exclude(scopes=[])
    return [setting_of(entry) for entry in rows.order_by("-at", "-pk")[:AT_MOST]]


def settings_changed(since: datetime, until: datetime) -> QuerySet[Entry]:
    """Entries of the audit trail on configuration and locks between two times, but for locks that incidents put."""
    rows = Entry.objects.filter(action__in=[*CONFIGURED, *LOCKED], at__gte=since, at__lte=until)
    return rows.exclude(action__in=LOCKED, actor__startswith="system: incident ")


def setting_of(entry: Entry) -> Change:
    """An entry of the audit trail as a change; it took no time."""
    words = CONFIGURED.get(entry.action) or LOCKED[entry.action]
    return Change(
        key=f"audit {entry.pk}", what=What.CONFIGURATION if entry.action in CONFIGURED else What.LOCK,
        title=words.format(entry.target.removeprefix("environment ")), began_at=entry.at, ended_at=entry.at,
        environments=tuple(entry.scopes), who=entry.actor, url=_audit_url(entry),
    )  # fmt: skip


def _audit_url(entry: Entry) -> str:
    where = f"&scope={entry.scopes[0]}" if entry.scopes else ""
    return f"{reverse('audit')}?action={entry.action}{where}#entry-{entry.pk}"
