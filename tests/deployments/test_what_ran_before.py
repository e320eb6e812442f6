"""What “Roll back” proposes: what ran before, by when deployments ended and not by when they were asked for."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from deployments.models import Deployment
from deployments.services import rollback_release
from environments.models import Placement
from tests.deployments.insight.test_pages import ran
from tests.estate import Estate

pytestmark = pytest.mark.django_db
DEPLOY, ROLLBACK = Deployment.Kind.DEPLOY, Deployment.Kind.ROLLBACK


class Story:
    """Deployments of production that succeeded, in the order in which they were asked for."""

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.ended = now() - timedelta(days=1)

    def move(self, kind: str, before: str, after: str, ended: int = 0) -> None:
        """ended: so many minutes later than in the order in which they were asked for."""
        self.ended += timedelta(minutes=1)
        releases, production = self.estate.releases, self.estate.production
        operation = ran(production, releases[after], kind=kind)
        operation.finished_at = self.ended + timedelta(minutes=ended)
        operation.save(update_fields=["finished_at"])
        Deployment.objects.filter(operation=operation).update(from_digest=releases[before].digest)
        Placement.objects.filter(environment=production).update(digest=releases[after].digest)

    def proposed(self) -> str:
        """The version."""
        found = rollback_release(Placement.objects.get(environment=self.estate.production))
        return found.version if found else ""


def test_what_ended_last_counts_whenever_it_was_asked_for(estate: Estate) -> None:
    story = Story(estate)
    story.move(DEPLOY, "1.4.0", "1.6.0", ended=60)  # asked for first, and waited for its time
    story.move(DEPLOY, "1.4.0", "1.5.0")
    story.move(ROLLBACK, "1.5.0", "1.4.0")
    Placement.objects.update(digest=estate.releases["1.6.0"].digest)
    assert story.proposed() == "1.4.0"


def test_after_a_rollback_it_is_what_ran_before_the_release_that_came_back(estate: Estate) -> None:
    story = Story(estate)
    story.move(DEPLOY, "1.4.0", "1.5.0")
    story.move(DEPLOY, "1.5.0", "1.6.0")
    assert story.proposed() == "1.5.0"
    story.move(ROLLBACK, "1.6.0", "1.5.0")
    assert story.proposed() == "1.4.0", "and not 1.6.0, which was just left"


def test_after_a_rollback_to_the_first_there_is_nothing_that_ran_before(estate: Estate) -> None:
    story = Story(estate)
    story.move(DEPLOY, "1.4.0", "1.5.0")
    story.move(ROLLBACK, "1.5.0", "1.4.0")
    assert story.proposed() == ""
