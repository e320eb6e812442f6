"""What the history tells, for programs: what is where, and the four keys."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from django.http import Http404
from ninja import Router
from pydantic import AfterValidator, BaseModel, StringConstraints, WithJsonSchema

from controlplane.accounts.api import ApiRequest
from controlplane.web.bodies import Slug
from controlplane.web.problems import problems
from deployments.commits import Relation
from deployments.insight.keys import Keys
from deployments.insight.numbers import SPANS, NumbersPage
from deployments.insight.promotion import PromotionPage, Station
from deployments.insight.views import choose, load_service, places_of
from deployments.listing import visible_services

router = Router(tags=["deployments"])


def _one_of_the_spans(weeks: int) -> int:
    if weeks not in SPANS:
        raise ValueError(f"write one of {', '.join(map(str, SPANS))}")
    return weeks


Weeks = Annotated[int, AfterValidator(_one_of_the_spans), WithJsonSchema({"type": "integer", "enum": list(SPANS)})]
# Two environments, the one that releases come from and the one they go to.
Ways = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_-]{1,60}\.\.[A-Za-z0-9_-]{1,60})?$")]


class StationOut(BaseModel):
    """The service in one environment. newer: known releases that are newer than what runs, at most 12.

    differs: kinds of what runs otherwise than it was deployed; drift_known: whether the place could be asked.
    """

    environment: str
    version: str
    digest: str
    since: datetime | None
    newer: int
    differs: list[str]
    drift_known: bool


class CommitOut(BaseModel):
    """title: its first line. url: its page, "" where the repository is not known."""

    sha: str
    author: str
    at: datetime
    title: str
    url: str


class BetweenOut(BaseModel):
    """What the release that runs in the environment before does to the one after, by the commits that were reported.

    commits: those that it brings or takes away, the newest first. why: where there are none, the reason. compare: the
    repository's page, "" where it is not known.
    """

    before: str
    after: str
    relation: Relation
    commits: list[CommitOut]
    why: str
    compare: str


class PromotionOut(BaseModel):
    """environments, in the company's order; waiting: operations that wait for an approval.

    between: the two environments that were named, else those where something waits; null where it is not known which
    releases run there.
    """

    service: str
    environments: list[StationOut]
    between: BetweenOut | None
    waiting: list[int]


class KeysOut(BaseModel):
    """lead_seconds, restore_seconds: medians; null without any. failure_percent: of those that ran."""

    succeeded: int
    ran: int
    went_wrong: int
    lead_seconds: float | None
    failure_percent: float | None
    restore_seconds: float | None


class WeekOut(KeysOut):
    """monday: when the week begins, in UTC."""

    monday: datetime


class NumbersOut(BaseModel):
    """All deployments that ended since then."""

    service: str
    environment: str
    since: datetime
    whole: KeysOut
    weeks: list[WeekOut]


@router.get("/promotion/{service}", response={200: PromotionOut, **problems(404, 422)}, summary="What is where")
def promotion_of(request: ApiRequest, service: Slug, between: Ways = "") -> PromotionOut:
    """One service in each environment that this person sees. between: two of them, as in staging..production."""
    actor = request.auth
    page = PromotionPage(actor, load_service(actor, list(visible_services(actor)), service), between)
    if between and between not in [pair.key for pair in page.pairs]:
        raise Http404
    return PromotionOut(
        service=service,
        environments=[_station(one) for one in page.stations],
        between=_between(page),
        waiting=[operation.pk for operation in page.waiting],
    )


def _between(page: PromotionPage) -> BetweenOut | None:
    pair, found = page.pair, page.commits
    if pair is None or found is None:
        return None
    return BetweenOut(
        before=pair.before.environment.slug,
        after=pair.after.environment.slug,
        relation=found.relation,
        commits=[CommitOut(**asdict(one)) for one in found.commits],
        why=found.why,
        compare=found.compare,
    )


def _station(one: Station) -> StationOut:
    return StationOut(
        environment=one.environment.slug,
        version=one.placement.version,
        digest=one.placement.digest,
        since=one.placement.since,
        newer=one.newer,
        differs=sorted({difference.what for difference in one.drift.differences}),
        drift_known=bool(one.drift.known_at) and not one.drift.unknown,
    )


@router.get(
    "/numbers/{service}/{environment}", response={200: NumbersOut, **problems(404, 422)}, summary="The four keys"
)
def numbers_of(request: ApiRequest, service: Slug, environment: Slug, weeks: Weeks = 12) -> NumbersOut:
    """Deployment frequency, lead time, change failure rate, time to restore, by the week. weeks: 4, 12 or 26."""
    place = choose(places_of(request.auth), f"{service}/{environment}")
    if place is None:
        raise Http404
    page = NumbersPage(place.service, place.environment, str(weeks))
    return NumbersOut(
        service=service,
        environment=environment,
        since=page.since,
        whole=_keys(page.whole),
        weeks=[WeekOut(monday=monday, **_keys(keys).model_dump()) for monday, keys in page.by_week.items()],
    )


def _keys(keys: Keys) -> KeysOut:
    return KeysOut(
        succeeded=keys.frequency,
        ran=keys.ran,
        went_wrong=keys.wrong,
        lead_seconds=keys.lead,
        failure_percent=keys.failure_percent,
        restore_seconds=keys.restore,
    )
