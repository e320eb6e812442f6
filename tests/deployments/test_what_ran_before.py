"""What “Roll back” proposes: what should have run before, whoever asked first and whatever was started by hand."""

from importlib import import_module

import pytest
from django.apps import apps
from django.test import Client
from django.utils.timezone import now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.errors import Invalid
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.adoption import request_adoption
from deployments.gates.promotion import has_run
from deployments.models import Deployment, Release
from deployments.services import request_deployment, rollback_release
from environments.drivers.base import Running
from environments.models import Arrival, Placement
from tests.estate import Estate, paper, release

pytestmark = pytest.mark.django_db(transaction=True)
DEPLOY, ROLLBACK = Deployment.Kind.DEPLOY, Deployment.Kind.ROLLBACK


class Story:
    """What becomes of staging, where 1.5.0 runs and nobody knows how that came there."""

    def __init__(self, estate: Estate, alice: Person) -> None:
        self.estate, self.alice = estate, Actor(alice)
        for version in ("1.7.0", "1.8.0"):
            estate.releases[version] = release(estate.service, version)

    @property
    def placement(self) -> Placement:
        places = Placement.objects.select_related("environment", "service")
        return places.get(environment=self.estate.staging)

    def asked(self, version: str, kind: str = DEPLOY) -> Operation:
        environment, wanted = self.estate.staging, self.estate.releases[version]
        return request_deployment(self.alice, environment=environment, release=wanted, reason="because", kind=kind)

    def move(self, version: str, kind: str = DEPLOY) -> None:
        done(self.asked(version, kind))

    def by_hand(self, version: str, digest: str = "") -> None:
        """Somebody starts it without us."""
        digest = digest or self.estate.releases[version].digest
        paper.runs["staging-1"] = Running("staging-1", version, digest)

    def adopt(self) -> None:
        done(request_adoption(self.alice, self.placement, reason="it was right"))

    def proposed(self) -> str:
        """The version."""
        found = rollback_release(self.placement)
        return found.version if found else ""


def done(operation: Operation) -> None:
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED, operation.outcome


@pytest.fixture
def story(estate: Estate, alice: Person) -> Story:
    return Story(estate, alice)


def test_what_ended_last_counts_whenever_it_was_asked_for(story: Story) -> None:
    first = story.asked("1.8.0")
    Operation.objects.filter(pk=first.pk).update(state=State.SCHEDULED, scheduled_for=now())
    story.move("1.7.0")
    Operation.objects.filter(pk=first.pk).update(state=State.QUEUED)
    story.by_hand("1.5.0")  # as it was when the first was asked for, or it would not start
    done(first)
    assert story.proposed() == "1.7.0"


def test_after_a_rollback_it_is_what_ran_before_the_release_that_came_back(story: Story) -> None:
    story.move("1.7.0")
    story.move("1.8.0")
    assert story.proposed() == "1.7.0"
    story.move("1.7.0", ROLLBACK)
    assert story.proposed() == "1.5.0", "and not 1.8.0, which was just left"


def test_after_a_rollback_to_the_first_there_is_nothing_that_ran_before(story: Story) -> None:
    story.move("1.7.0")
    story.move("1.5.0", ROLLBACK)
    assert story.proposed() == ""


def test_what_was_adopted_goes_back_to_what_was_deployed_before(story: Story) -> None:
    story.move("1.7.0")
    story.by_hand("1.8.0")
    story.adopt()
    assert story.proposed() == "1.7.0", "and not 1.5.0, two releases back"
    story.move("1.7.0", ROLLBACK)
    assert story.proposed() == "1.5.0"


def test_what_was_adopted_has_run_here(story: Story) -> None:
    story.by_hand("1.8.0")
    story.adopt()
    story.move("1.7.0")
    assert story.proposed() == "1.8.0"
    story.move("1.8.0", ROLLBACK)


def test_what_was_started_by_hand_and_removed_is_nothing_to_go_back_to(story: Story) -> None:
    story.move("1.7.0")
    story.by_hand("1.8.0")
    story.move("1.7.0")
    assert story.proposed() == "1.5.0", "and not the very image that was removed"
    assert not has_run("staging", story.estate.releases["1.8.0"])
    with pytest.raises(Invalid, match=r"1\.8\.0 has never run here"):
        story.move("1.8.0", ROLLBACK)


def test_what_was_started_by_hand_may_be_no_known_release(story: Story, client: Client, alice: Person) -> None:
    story.move("1.7.0")
    story.by_hand("nightly", "sha256:" + "f" * 64)
    story.move("1.7.0")
    assert story.proposed() == "1.5.0"
    client.force_login(alice)
    page = client.get("/environments/staging/rollback/api").content.decode()
    assert "Roll back api to 1.5.0" in page
    assert "Nothing to go back to" not in page


def test_a_release_over_what_was_started_by_hand_goes_back_to_what_was_deployed(story: Story) -> None:
    story.move("1.7.0")
    story.by_hand("1.4.0")
    story.move("1.8.0")
    assert story.proposed() == "1.7.0"


def test_the_first_deployment_goes_back_to_what_it_found(story: Story) -> None:
    Placement.objects.filter(pk=story.placement.pk).update(version="", digest="")
    story.move("1.7.0")
    assert story.proposed() == "1.5.0"
    assert has_run("staging", Release.objects.get(version="1.5.0"))


def test_what_came_before_arrivals_were_kept_is_written_down_from_deployments_and_adoptions(story: Story) -> None:
    story.move("1.7.0")
    story.by_hand("1.8.0")
    story.adopt()
    fields = ("operation_id", "version", "digest", "over_version", "over_digest")
    kept = list(Arrival.objects.order_by("pk").values(*fields))
    Arrival.objects.all().delete()
    import_module("deployments.migrations.0006_arrivals").write_down(apps, None)
    assert list(Arrival.objects.order_by("pk").values(*fields)) == kept
    assert len(kept) == 2
