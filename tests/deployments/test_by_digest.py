"""A digest that two releases have means the one that runs, or ran: who adds the other decides nothing for a place."""

import pytest
from django.db.models.functions import Now

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from deployments.adoption import look_at
from deployments.gates.known import know
from deployments.gates.way_back import former_at, look
from deployments.listing import images_deployed
from deployments.manifests import deployed_release
from deployments.models import Deployment, Release
from deployments.policies import policy_of
from deployments.services import rollback_release
from environments.drivers import DRIVERS
from environments.drivers.base import Kept, Software, Target
from environments.models import Placement
from tests.deployments.gates.policies import rule
from tests.estate import Estate, Paper, paper

pytestmark = pytest.mark.django_db
ELSEWHERE = "registry.elsewhere.example/api"


@pytest.fixture
def twice(estate: Estate) -> Estate:
    """1.4.0 and 1.5.0 are known once more, later and from elsewhere, as they might be since before that was refused."""
    for version, known in list(estate.releases.items()):
        Release.objects.create(
            service=estate.service, version=f"{version}-again", image=ELSEWHERE, digest=known.digest,
            created_by_name="mallory",
        )  # fmt: skip
    return estate


@pytest.fixture
def placement(twice: Estate) -> Placement:
    """Production, where 1.4.0 was deployed."""
    return Placement.objects.select_related("environment", "service").get(environment=twice.production)


def arrived(placement: Placement, twice: Estate, alice: Person, came_from: str) -> None:
    """1.5.0 was deployed there, and this ran before."""
    operation = Operation.objects.create(
        kind="deployment", title="x", scopes=["production"], lock_names=["production"], plan={}, plan_digest="x",
        reason="x", requested_by=alice, requested_by_name="Alice", approvals_required=0, state="succeeded",
        finished_at=Now(),
    )  # fmt: skip
    new, old = twice.releases["1.5.0"], twice.releases["1.4.0"]
    Deployment.objects.create(
        operation=operation, environment=twice.production, release=new, from_version=came_from, from_digest=old.digest
    )
    placement.arrivals.create(
        operation=operation, version=new.version, digest=new.digest, over_version=came_from, over_digest=old.digest
    )
    Placement.objects.filter(pk=placement.pk).update(version=new.version, digest=new.digest)
    placement.refresh_from_db()


@pytest.mark.parametrize("came_from", ["1.4.0", "1.3.0 and 1.4.0"])
def test_a_rollback_goes_to_the_version_that_ran(
    placement: Placement, twice: Estate, alice: Person, came_from: str
) -> None:
    arrived(placement, twice, alice, came_from)
    assert rollback_release(placement) == twice.releases["1.4.0"]


def test_a_rollback_to_a_version_that_nobody_knows_goes_by_the_digest(
    placement: Placement, twice: Estate, alice: Person
) -> None:
    arrived(placement, twice, alice, "1.3.0")
    assert rollback_release(placement) == Release.objects.get(version="1.4.0-again")


def test_what_was_deployed_is_deployed_again(placement: Placement, twice: Estate) -> None:
    assert deployed_release(placement) == twice.releases["1.4.0"]


def test_the_place_is_asked_for_the_image_that_runs(
    placement: Placement, twice: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Paper):
        def kept(self, target: Target, software: Software) -> Kept:
            asked.append(software.image)
            return super().kept(target, software)

    asked: list[str] = []
    rule(twice, way_back="possible")
    monkeypatch.setitem(DRIVERS, "paper", Asked())
    look(placement, policy_of(twice.production), former_at(placement))
    assert asked == ["registry/api"]


def test_gates_know_the_version_that_runs(placement: Placement, twice: Estate) -> None:
    assert know(twice.production, twice.releases["1.5.0"], None).former == twice.releases["1.4.0"]


def test_what_runs_behind_our_back_is_adopted_by_its_version(placement: Placement, twice: Estate) -> None:
    paper.runs |= {one["name"]: paper.runs["staging-1"] for one in placement.instances}
    assert look_at(placement).release == twice.releases["1.5.0"]


def test_the_image_of_what_was_deployed_is_the_one_that_is_kept(placement: Placement) -> None:
    assert images_deployed([placement]) == {placement.pk: "registry/api"}
    Placement.objects.filter(pk=placement.pk).update(version="1.3.0")
    placement.refresh_from_db()
    assert images_deployed([placement]) == {placement.pk: ELSEWHERE}, "of the newest, where the version is not known"
