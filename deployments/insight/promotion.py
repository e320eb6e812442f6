"""One service on its way through the environments: what is where since when, what is newer, what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.db.models import Q

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.operations.approvers import people_who_can
from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import Operation
from controlplane.operations.states import ACTIVE, State
from controlplane.web.tones import Tone
from deployments.commits import Between, commits_between
from deployments.gates.asking import gates_for
from deployments.insight.configuration import Difference, differences
from deployments.listing import visible_deployments
from deployments.models import Deployment, Release
from deployments.policies import policy_of
from environments.access import visible_environments
from environments.drift import Standing, standing_of, with_drift
from environments.models import Environment, Placement, Service

NEWEST = 12  # releases shown, besides those that run somewhere
BETWEEN = 30
WAITING = 10
TONES = {State.SUCCEEDED: Tone.IDLE, State.FAILED: Tone.BAD, State.AWAITING_APPROVAL: Tone.WAIT}


@dataclass(frozen=True)
class Station:
    """The service in one environment. newer: how many known releases are newer than what runs, at most `NEWEST`."""

    environment: Environment
    placement: Placement
    release: Release | None
    drift: Standing
    newer: int
    may_operate: bool


@dataclass(frozen=True)
class Cell:
    """One release in one environment. at: since when, or when it was there last."""

    tone: Tone
    word: str
    at: datetime | None = None
    url: str = ""


@dataclass(frozen=True)
class Pair:
    """Two environments, the one promoted from and the one promoted to."""

    before: Station
    after: Station

    @property
    def key(self) -> str:
        """As the page's address names it."""
        return f"{self.before.environment.slug}..{self.after.environment.slug}"

    @property
    def is_a_way(self) -> bool:
        """Releases of the second have to run in the first before."""
        return self.after.environment.promoted_from == self.before.environment.slug

    @property
    def is_ahead(self) -> bool:
        """Something newer runs in the first."""
        first, second = self.before.release, self.after.release
        return first is not None and (second is None or first.pk > second.pk)


class PromotionPage:
    """Asked for part by part, each part in one query or a few, however long the history is."""

    def __init__(self, actor: Actor, service: Service, between: str = "") -> None:
        self._actor = actor
        self.service = service
        self._between = between

    @cached_property
    def stations(self) -> list[Station]:
        """Where it has a place, in the company's order."""
        seen = Placement.objects.filter(service=self.service, environment__in=visible_environments(self._actor))
        placements = list(with_drift(seen.select_related("environment", "service")))
        return [
            Station(
                one.environment, one, running := self._running(one), standing_of(one),
                sum(other.pk > running.pk for other in self._newest) if running else 0,
                self._actor.may(Role.OPERATOR, [one.environment.slug]),
            )
            for one in placements
        ]  # fmt: skip

    def _running(self, placement: Placement) -> Release | None:
        """Of the versions of one build the one that was deployed there, whichever was added since."""
        same = [one for one in self.releases if placement.digest and one.digest == placement.digest]
        return next((one for one in same if one.version == placement.version), same[0] if same else None)

    @cached_property
    def _newest(self) -> list[Release]:
        return self.releases[:NEWEST]

    @cached_property
    def releases(self) -> list[Release]:
        """The newest, and those that run somewhere the person sees; the newest first."""
        places = Placement.objects.filter(service=self.service, environment__in=visible_environments(self._actor))
        known = Release.objects.filter(service=self.service).select_related("service", "report__pipeline")
        newest = known.order_by("-pk").values("pk")[:NEWEST]
        running = Q(digest__in=places.exclude(digest="").values("digest"))
        return list(known.filter(Q(pk__in=newest) | running).order_by("-pk")[: 2 * NEWEST])

    @cached_property
    def rows(self) -> list[tuple[Release, list[Cell | None]]]:
        """Versions by environments."""
        last = self._last
        return [
            (release, [self._cell(release, station, last) for station in self.stations]) for release in self.releases
        ]

    @cached_property
    def _last(self) -> dict[tuple[int, int], Deployment]:
        """The last deployment of each shown release to each environment: one query of as many rows as cells."""
        places = [station.environment for station in self.stations]
        deployments = visible_deployments(self._actor).filter(release__in=self.releases, environment__in=places)
        latest = deployments.order_by("release_id", "environment_id", "-pk").distinct("release_id", "environment_id")
        return {(one.release_id, one.environment_id): one for one in latest}

    def _cell(self, release: Release, station: Station, last: dict[tuple[int, int], Deployment]) -> Cell | None:
        deployment = last.get((release.pk, station.environment.pk))
        url = deployment.operation.get_absolute_url() if deployment else ""
        if station.release == release:
            return Cell(Tone.OK, "runs", station.placement.since, url)
        if deployment is None:
            return None
        operation = deployment.operation
        if operation.state in ACTIVE and operation.state != State.AWAITING_APPROVAL:
            return Cell(Tone.BUSY, operation.get_state_display(), operation.requested_at, url)
        word = "ran" if operation.state == State.SUCCEEDED else operation.get_state_display()
        tone = TONES.get(State(operation.state), Tone.IDLE)
        return Cell(tone, word, operation.finished_at or operation.requested_at, url)

    # --- two environments beside each other -------------------------------------------------------------

    @cached_property
    def pairs(self) -> list[Pair]:
        """Each environment with the one that its releases come from, or with the one before it."""
        by_slug = {station.environment.slug: station for station in self.stations}
        found = []
        for number, station in enumerate(self.stations):
            before = by_slug.get(station.environment.promoted_from) or (self.stations[number - 1] if number else None)
            if before is not None and before is not station:
                found.append(Pair(before, station))
        return found

    @cached_property
    def pair(self) -> Pair | None:
        """The one that is looked at: named in the address, else one that releases go through, where something waits.

        A place that is in use comes before one that never was.
        """
        named = next((one for one in self.pairs if one.key == self._between), None)
        return named or max(
            reversed(self.pairs),
            key=lambda one: (one.is_a_way, one.is_ahead, one.after.release is not None),
            default=None,
        )

    @cached_property
    def between(self) -> list[Release]:
        """What the second would get with the release that runs in the first: releases, the newest first."""
        if self.pair is None or not self.pair.is_ahead:
            return []
        first, second = self.pair.before.release, self.pair.after.release
        assert first is not None  # or it would not be ahead
        if second in self._newest:  # then those between are shown above already
            return [one for one in self._newest if second.pk < one.pk <= first.pk]
        rows = Release.objects.filter(service=self.service, pk__lte=first.pk, pk__gt=second.pk if second else 0)
        return list(rows.select_related("service", "report__pipeline").order_by("-pk")[:BETWEEN])

    @cached_property
    def commits(self) -> Between | None:
        """What the release that runs in the first would bring to the second, or take away; None: one is not known."""
        if self.pair is None or self.pair.before.release is None or self.pair.after.release is None:
            return None
        return commits_between(self.pair.after.release, self.pair.before.release)

    @cached_property
    def configuration(self) -> list[Difference]:
        """Variables that differ."""
        return differences(self.pair.before.environment, self.pair.after.environment) if self.pair else []

    @cached_property
    def gates(self) -> list[Gate]:
        """What stands in the way of the release that runs in the first; those that pass are left out."""
        if self.pair is None or not self.pair.is_ahead or self.pair.before.release is None:
            return []
        target = self.pair.after.environment
        gates = gates_for(target, self.pair.before.release, kind=Deployment.Kind.DEPLOY)
        return [gate for gate in gates if gate.outcome is not Outcome.PASSED]

    @cached_property
    def waiting(self) -> Sequence[Operation]:
        """Deployments of the service that wait for an approval, the oldest first."""
        rows = visible_deployments(self._actor).filter(release__service=self.service)
        waiting = rows.filter(operation__state=State.AWAITING_APPROVAL).order_by("pk")[:WAITING]
        return [one.operation for one in waiting]

    @cached_property
    def approvals(self) -> int:
        """How many have to approve what goes to the second environment."""
        return policy_of(self.pair.after.environment).approvals_required if self.pair else 0

    @cached_property
    def approvers(self) -> list[str]:
        """Who could approve what waits, or would wait, in the second environment."""
        if self.pair is None or not self.approvals:
            return []
        return people_who_can(Role.APPROVER, [self.pair.after.environment.slug], besides=self._actor.person.pk)
