"""What runs may be adopted as what was deployed: a known release, by a reason, with approvals, looked at again."""

import pytest
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import engine, transitions
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.adoption import look_at, request_adoption
from deployments.models import ApproverGroup
from environments.drivers.base import Running
from environments.models import Drift, DriftWatch, Environment, Placement
from tests.deployments.gates.policies import rule
from tests.estate import Estate, paper

pytestmark = pytest.mark.django_db(transaction=True)

ADOPT = "/environments/production/adopt/api"


@pytest.fixture
def placement(estate: Estate) -> Placement:
    """Production, where 1.5.0 runs behind our back."""
    runs(estate, "1.5.0")
    return Placement.objects.select_related("environment", "service").get(environment=estate.production)


def runs(estate: Estate, version: str, *names: str) -> None:
    release = estate.releases[version]
    for name in names or ("production-1", "production-2", "production-3"):
        paper.runs[name] = Running(name, release.version, release.digest)


def adopted(operation: Operation) -> Operation:
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def test_it_becomes_what_was_deployed_once_it_is_approved(
    estate: Estate, placement: Placement, alice: Person, bob: Person
) -> None:
    DriftWatch.objects.create(placement=placement)
    operation = request_adoption(Actor(alice), placement, reason="the hotfix of last night was right")
    assert operation.state == State.AWAITING_APPROVAL
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    assert adopted(operation).state == State.SUCCEEDED
    placement.refresh_from_db()
    assert (placement.version, placement.digest) == ("1.5.0", estate.releases["1.5.0"].digest)
    assert placement.changed_in == operation.pk
    entry = Entry.objects.get(action="operation.requested")
    assert entry.reason == "the hotfix of last night was right"


def test_it_is_approved_by_the_groups_that_approve_a_deployment_there(
    estate: Estate, placement: Placement, alice: Person, bob: Person
) -> None:
    Environment.objects.filter(pk=estate.production.pk).update(approvals_required=0)
    ApproverGroup.objects.create(slug="sre", name="SRE", people=["carol"])
    rule(estate, approvers={"sre": 1})
    placement.environment.refresh_from_db()
    operation = request_adoption(Actor(alice), placement, reason="because")
    assert (operation.state, operation.approvals_required) == (State.AWAITING_APPROVAL, 1)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    operation.refresh_from_db()
    assert operation.state == State.AWAITING_APPROVAL, "bob is not of SRE"


def test_what_runs_otherwise_by_then_is_not_adopted(
    estate: Estate, placement: Placement, alice: Person, bob: Person
) -> None:
    operation = request_adoption(Actor(alice), placement, reason="because")
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    runs(estate, "1.4.0", "production-2")
    assert adopted(operation).state == State.STALE
    placement.refresh_from_db()
    assert placement.version == "1.4.0"


def test_the_plan_that_was_read_is_the_one_that_is_asked_for(
    estate: Estate, placement: Placement, alice: Person
) -> None:
    digest = look_at(placement).plan.digest
    runs(estate, "1.6.0")
    with pytest.raises(Conflict):
        request_adoption(Actor(alice), placement, reason="because", plan_digest=digest)


@pytest.mark.parametrize(("instances", "words"), [
    ({}, "Nothing runs"),
    ({"production-1": "1.5.0", "production-2": "1.4.0"}, "Different images run"),
    ({"production-1": "1.4.0"}, "which was deployed, runs already"),
])  # fmt: skip
def test_what_cannot_be_adopted(
    estate: Estate, placement: Placement, alice: Person, instances: dict[str, str], words: str
) -> None:
    paper.runs.clear()
    for name, version in instances.items():
        runs(estate, version, name)
    with pytest.raises(Invalid, match=words):
        request_adoption(Actor(alice), placement, reason="because")


def test_an_image_that_no_release_has_is_not_adopted(placement: Placement, alice: Person) -> None:
    for name in list(paper.runs):
        paper.runs[name] = Running(name, "nightly", "sha256:" + "f" * 64)
    with pytest.raises(Invalid, match="No known release has the image"):
        request_adoption(Actor(alice), placement, reason="because")


def test_the_page_asks_why_and_for_the_name(
    client: Client, estate: Estate, placement: Placement, alice: Person
) -> None:
    client.force_login(alice)
    page = client.get(ADOPT)
    assert page.status_code == 200
    assert "Adopt 1.5.0" in page.content.decode()
    digest = look_at(placement).plan.digest
    said = {"reason": "", "confirm": "production", "plan_digest": digest}
    assert client.post(ADOPT, said).status_code == 422
    assert client.post(ADOPT, said | {"reason": "because", "confirm": "staging"}).status_code == 422
    assert client.post(ADOPT, said | {"reason": "because", "plan_digest": "0" * 64}).status_code == 409
    answer = client.post(ADOPT, said | {"reason": "because"})
    assert answer.status_code == 302
    assert Operation.objects.get().title == "Adopt api 1.5.0 in production"


def test_who_may_not(client: Client, placement: Placement, charlie: Person, dana: Person, estate: Estate) -> None:
    for person, status in ((charlie, 404), (dana, 403)):
        client.force_login(person)
        assert client.get(ADOPT).status_code == status
        assert client.post(ADOPT, {"reason": "because"}).status_code == status
    assert not Operation.objects.exists()


def test_a_place_that_cannot_be_asked_is_said_to_be(
    client: Client, placement: Placement, alice: Person, estate: Estate
) -> None:
    paper.unreachable = "production does not answer"
    client.force_login(alice)
    assert "production does not answer" in client.get(ADOPT).content.decode()


def test_the_board_and_the_page_say_what_differs_with_both_answers(
    client: Client, placement: Placement, alice: Person, dana: Person, estate: Estate
) -> None:
    DriftWatch.objects.create(placement=placement)
    Drift.objects.create(
        placement=placement, what="image", subject="production-1", wanted="1.4.0 sha256:1", found="1.5.0 sha256:2"
    )
    client.force_login(alice)
    board = client.get("/").content.decode()
    assert "differs" in board
    assert f"/environments/production#drift-{placement.pk}" in board
    page = client.get("/environments/production").content.decode()
    assert "Differs from what was deployed" in page
    assert ADOPT in page
    assert "/environments/production/deploy?service=api&amp;version=1.4.0" in page
    redeploy = client.get("/environments/production/deploy?service=api&version=1.4.0").content.decode()
    assert "swap production-1" in redeploy
    client.force_login(dana)
    assert ADOPT not in client.get("/environments/production").content.decode()


def test_what_nobody_knows_is_never_said_to_be_as_it_was_deployed(
    client: Client, placement: Placement, dana: Person, estate: Estate
) -> None:
    DriftWatch.objects.create(placement=placement, unknown="the host does not answer")
    client.force_login(dana)
    assert "drift not known" in client.get("/").content.decode()
    page = client.get("/environments/production").content.decode()
    assert "the host does not answer" in page
    assert "as it was deployed" not in page
