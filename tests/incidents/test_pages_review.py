"""The review page: what changed before, how long it took, the line beside what was measured; bounded and refused."""

import re
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from environments.models import HealthSample, Placement
from incidents import review, timeline
from incidents.models import Incident
from incidents.review import ReviewPage
from incidents.timeline import Kind, NewEntry
from tests.estate import Estate
from tests.incidents.escalating import matrix
from tests.incidents.lessons import add, opened, resolved
from tests.incidents.test_changes_gather import configured, deployed
from tests.people import person

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def incident(alice: Person, bob: Person, estate: Estate) -> Incident:
    """One that was over after twenty minutes, an hour ago; its timeline is as old as it is."""
    matrix([bob, alice], ["pagerduty"])
    found = resolved(alice)
    at = database_time() - 60 * MINUTE
    Incident.objects.filter(pk=found.pk).update(
        opened_at=at, acknowledged_at=at + 6 * MINUTE, resolved_at=at + 20 * MINUTE, notified_at=at + MINUTE / 60
    )
    return Incident.objects.get(pk=found.pk)


def probed(estate: Estate, at: datetime, *, healthy: bool = True, latency: float | None = 20.0) -> None:
    place = Placement.objects.get(environment=estate.production)
    HealthSample.objects.create(placement=place, instance="production-1", at=at, healthy=healthy, latency_ms=latency)


def path_of(incident: Incident, rest: str = "") -> str:
    return f"/incidents/{incident.pk}/review{rest}"


def text_of(client: Client, reader: Person, path: str) -> str:
    client.force_login(reader)
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode().replace("\N{NO-BREAK SPACE}", " ")


class TestTimes:
    def test_stand_beside_what_the_matrix_promises(self, client: Client, dana: Person, incident: Incident) -> None:
        text = text_of(client, dana, path_of(incident))
        assert re.search(r"acknowledged after</dt><dd>6 m 0 s <span class=\"quiet\">of 15 m</span>", text)
        assert "resolved after</dt><dd>20 m 0 s" in text

    def test_late_is_said(self, client: Client, dana: Person, incident: Incident) -> None:
        Incident.objects.filter(pk=incident.pk).update(acknowledged_at=incident.opened_at + 16 * MINUTE)
        assert "of 15 m, late" in text_of(client, dana, path_of(incident))

    def test_nobody_told_is_red(self, client: Client, dana: Person, incident: Incident) -> None:
        Incident.objects.filter(pk=incident.pk).update(notified_at=None)
        assert '<span class="state bad">never</span>' in text_of(client, dana, path_of(incident))

    def test_phases_add_up_to_the_whole(self, alice: Person, incident: Incident) -> None:
        for minutes, phase in ((6, "triage"), (10, "response"), (12, "triage"), (15, "resolution")):
            at = incident.opened_at + minutes * MINUTE
            add(incident, Kind.STATE, f"Phase: {phase}", at=at, data={"phase": phase})
        spent = {one.phase.value: one.span for one in ReviewPage(Actor(alice), incident).phases}
        assert spent["detection"] == 6 * MINUTE
        assert spent["triage"] == 7 * MINUTE  # it went back to it
        assert spent["response"] == 2 * MINUTE
        assert sum(spent.values(), timedelta(0)) == 20 * MINUTE

    def test_what_goes_on_says_so(self, client: Client, dana: Person, estate: Estate) -> None:
        text = text_of(client, dana, path_of(opened()))
        assert "so far" in text
        assert "open for" in text


class TestBlame:
    def test_the_deployment_is_first_with_the_way_back(
        self, client: Client, alice: Person, incident: Incident, estate: Estate
    ) -> None:
        deployed(alice, estate, ago=63 * MINUTE)
        text = text_of(client, alice, path_of(incident))
        assert "<b>deploy of api 1.5.0, finished 3 min before the first alert, same environment</b>" in text
        assert 'href="/environments/production/rollback/api">Roll back to 1.4.0</a>' in text

    def test_viewers_are_not_offered_the_way_back(
        self, client: Client, alice: Person, dana: Person, incident: Incident, estate: Estate
    ) -> None:
        deployed(alice, estate, ago=63 * MINUTE)
        text = text_of(client, dana, path_of(incident))
        assert "deploy of api 1.5.0" in text
        assert "/rollback/" not in text

    def test_silence_is_said_as_that(self, client: Client, dana: Person, incident: Incident) -> None:
        assert "No change stands out" in text_of(client, dana, path_of(incident))

    def test_many_changes_after_it_do_not_hide_the_one_before(
        self, alice: Person, incident: Incident, estate: Estate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deployed(alice, estate, ago=63 * MINUTE)
        for number in range(4):
            deployed(alice, estate, ago=(50 - number) * MINUTE)
        monkeypatch.setattr("incidents.changes.AT_MOST", 2)
        assert len(ReviewPage(Actor(alice), incident).suspects) == 1


class TestMeasured:
    def test_error_rate_and_p95_of_the_environment(self, alice: Person, incident: Incident, estate: Estate) -> None:
        for number in range(20):
            at = incident.opened_at + timedelta(seconds=number + 2)
            probed(estate, at, healthy=number % 4 != 0, latency=10.0 + number)
        (chart,) = ReviewPage(Actor(alice), incident).charts
        assert (chart.name, chart.errors.worst) == ("Production", 0.25)
        assert chart.latency.worst == pytest.approx(28.05)  # the 95th percentile of 10 … 29
        assert chart.errors.line.startswith("M")

    def test_nobody_answering_breaks_the_line_of_answers(
        self, alice: Person, incident: Incident, estate: Estate
    ) -> None:
        width = (80 * MINUTE) / review.PARTS
        begin = incident.opened_at - review.AROUND
        for number, latency in enumerate((10.0, 12.0, None, 11.0)):
            probed(estate, begin + width * (number + 0.5), healthy=latency is not None, latency=latency)
        (chart,) = ReviewPage(Actor(alice), incident).charts
        assert [chart.latency.line.count(letter) for letter in "ML"] == [2, 1]
        assert [chart.errors.line.count(letter) for letter in "ML"] == [1, 3]

    def test_samples_that_are_gone_are_said_to_be(self, client: Client, dana: Person, incident: Incident) -> None:
        ago = timedelta(days=3)
        Incident.objects.filter(pk=incident.pk).update(
            opened_at=incident.opened_at - ago, resolved_at=incident.opened_at - ago + 20 * MINUTE
        )
        text = text_of(client, dana, path_of(incident))
        assert "those of this incident are gone" in text
        assert "What changed before" in text

    def test_changes_are_bars_that_lead_to_them(
        self, client: Client, alice: Person, incident: Incident, estate: Estate
    ) -> None:
        operation = deployed(alice, estate, ago=63 * MINUTE)
        configured()  # now: after the time that is drawn, or at its edge
        text = text_of(client, alice, path_of(incident))
        assert re.search(rf'<a href="/operations/{operation.pk}" aria-label="[^"]+"><rect class="ok"', text)


class TestLine:
    def test_jumps_lead_to_the_first_entry_of_each_part(self, alice: Person, incident: Incident) -> None:
        first = add(incident, Kind.NOTE, "one", at=incident.opened_at + MINUTE)
        add(incident, Kind.NOTE, "two", at=incident.opened_at + 2 * MINUTE)
        page = ReviewPage(Actor(alice), incident)
        assert [jump.seq for jump in page.jumps if jump.seq] == [first]
        assert f"#entry-{first}" in [address for _, address in page.jump_links]

    def test_is_read_on_page_by_page_and_jumps_reach_every_page(
        self, client: Client, alice: Person, incident: Incident, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(review, "ENTRIES", 2)
        numbers = [add(incident, Kind.NOTE, f"note {n}", at=incident.opened_at + n * MINUTE) for n in range(1, 6)]
        text = text_of(client, alice, path_of(incident))
        assert "note 2" in text
        assert "note 3" not in text
        later = re.search(r'rel="next" href="(\?from=\d+)"', text)
        assert later is not None
        text = text_of(client, alice, path_of(incident, later[1]))
        assert "note 3" in text
        assert "note 2" not in text
        assert any(
            address.startswith("?from=") for _, address in ReviewPage(Actor(alice), incident, numbers[2]).jump_links
        )

    def test_hidden_entries_stay_out_of_the_meeting(self, client: Client, alice: Person, incident: Incident) -> None:
        seq = add(incident, Kind.NOTE, "surely the pool")
        with transaction.atomic():
            timeline.hide(timeline.locked(incident.pk), Actor(alice).who, seq, "it was not", hidden=True)
        assert "surely the pool" not in text_of(client, alice, path_of(incident))

    def test_what_people_wrote_is_not_markup(self, client: Client, alice: Person, incident: Incident) -> None:
        add(incident, Kind.NOTE, "<script>alert(1)</script>")
        text = text_of(client, alice, path_of(incident))
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text


class TestBounds:
    def test_a_long_line_costs_no_more_than_a_short_one(
        self, client: Client, alice: Person, incident: Incident
    ) -> None:
        client.force_login(alice)
        queries, sizes = [], []
        for more in (0, 2_000):
            if more:
                with transaction.atomic():
                    row = timeline.locked(incident.pk)
                    at = incident.opened_at
                    new = [NewEntry(Kind.NOTE, f"note {n}", at=at + timedelta(seconds=n / 2)) for n in range(more)]
                    timeline.append(row, SYSTEM("test"), *new)
            with CaptureQueriesContext(connection) as caught:
                answer = client.get(path_of(incident))
            queries.append(len(caught))
            sizes.append(len(answer.content))
        assert queries[0] == queries[1] <= 20
        assert sizes[1] < 100_000

    @pytest.mark.parametrize("given", ["?from=9999999", "?from=x", "?from=-1", "?from=" + "9" * 30])
    def test_other_cursors_are_the_beginning(
        self, client: Client, dana: Person, incident: Incident, given: str
    ) -> None:
        assert "Opened as P1" in text_of(client, dana, path_of(incident, given))


class TestWhoMay:
    def test_nobody_without_a_role_in_its_environments(
        self, client: Client, incident: Incident, charlie: Person
    ) -> None:
        for reader in (charlie, person("frank", staging=Role.ADMIN)):
            client.force_login(reader)
            assert client.get(path_of(incident)).status_code == 404

    def test_it_is_only_read(self, client: Client, incident: Incident, alice: Person) -> None:
        client.force_login(alice)
        assert client.post(path_of(incident)).status_code == 405

    def test_strangers_sign_in_first(self, client: Client, incident: Incident) -> None:
        assert client.get(path_of(incident)).status_code == 302
