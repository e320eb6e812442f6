"""The judge of the rounds of incidents sees what it is there for."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.clock.database import database_time
from incidents.models import Incident, Level, Page
from tests.chaos.incidents.judge import BOUND_SECONDS, Log, Verdict, judge

pytestmark = pytest.mark.django_db
WAYS = [{"channel": "webhook", "address": ""}, {"channel": "sms", "address": ""}]


@pytest.fixture
def page() -> Page:
    """The page of a level that was due just now, of an incident that is over."""
    now = database_time()
    incident = Incident.objects.create(title="a", severity="P2", state="resolved", resolved_at=now)
    level = Level.objects.create(incident=incident, number=1, role="first", due_at=now, state="fired")
    return Page.objects.create(incident=incident, level=level, person_name="erin", ways=WAYS)


def judged(
    tmp_path: Path, page: Page, *arrivals: tuple[float, int, int], known: float | None = None, after: float = 0.0
) -> Verdict:
    """arrivals: seconds after the level was due, the way, the status. after: when it ended."""
    assert page.level is not None
    due = page.level.due_at.timestamp()
    with (tmp_path / "book").open("w") as book:
        for seconds, way, status in arrivals:
            headers = {"idempotency-key": f"page-{page.pk}-{way}"}
            note = {"at": due + seconds, "path": "POST /", "headers": headers, "body": "", "status": status}
            book.write(json.dumps(note) + "\n")
    known_at = None if known is None else due + known
    return judge(Log(tmp_path / "book"), page.incident, known_at, due + (after or BOUND_SECONDS + 1))


def wrong(verdict: Verdict) -> dict[str, int]:
    return {name: len(words) for name, words in verdict.wrong.items() if words}


def test_one_that_came_in_time_is_fine(tmp_path: Path, page: Page) -> None:
    verdict = judged(tmp_path, page, (1.5, 0, 202))
    assert not wrong(verdict)
    assert verdict.late == [pytest.approx(1.5)]


def test_one_that_never_came_is_lost(tmp_path: Path, page: Page) -> None:
    assert wrong(judged(tmp_path, page)) == {"lost": 1}
    assert wrong(judged(tmp_path, page, (1, 0, 503))) == {"lost": 1}, "nobody took it"
    assert wrong(judged(tmp_path, page, (BOUND_SECONDS + 0.5, 0, 202))) == {"lost": 1}, "too late"


def test_one_that_somebody_acknowledged_before_is_not_lost(tmp_path: Path, page: Page) -> None:
    assert not wrong(judged(tmp_path, page, known=5.0))


def test_one_that_was_passed_over_goes_with_a_higher_one(tmp_path: Path, page: Page) -> None:
    assert page.level is not None
    Level.objects.create(
        incident=page.incident, number=0, role="before", state="passed", due_at=page.level.due_at - timedelta(seconds=3)
    )
    assert not wrong(judged(tmp_path, page, (1, 0, 202)))
    assert wrong(judged(tmp_path, page)) == {"lost": 2}


def test_the_same_key_again_is_harmless_where_the_provider_knows_keys(tmp_path: Path, page: Page) -> None:
    verdict = judged(tmp_path, page, (1, 0, 202), (9, 0, 0))
    assert (wrong(verdict), verdict.repeats) == ({}, 1)
    assert wrong(judged(tmp_path, page, (1, 1, 202), (9, 1, 202))) == {"doubled": 1}, "an SMS"
    assert not wrong(judged(tmp_path, page, (1, 0, 202), (9, 1, 202))), "another channel is another way"


def test_what_arrives_after_the_acknowledgement_is_seen(tmp_path: Path, page: Page) -> None:
    assert not wrong(judged(tmp_path, page, (1, 0, 202), known=1.1))
    assert wrong(judged(tmp_path, page, (1, 0, 202), known=0.9)) == {"after_ack": 1}


def test_what_is_left_is_stuck(tmp_path: Path, page: Page) -> None:
    Level.objects.create(incident=page.incident, number=2, role="next", due_at=database_time() + timedelta(hours=1))
    assert wrong(judged(tmp_path, page, (1, 0, 202))) == {"stuck": 1}
