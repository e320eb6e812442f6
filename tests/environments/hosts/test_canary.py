"""Canaries on real hosts behind a real HAProxy, carried out by the engine to their end while people ask."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from controlplane.accounts.models import Person
from controlplane.embedded.processes import wait_until
from controlplane.operations.models import Effect, Event, Operation
from controlplane.operations.states import State
from deployments.models import CanarySample, CanaryVerdict
from tests.backups.processes import worker
from tests.environments.hosts.street import Make, Street, requests, street

__all__ = ["street"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
QUICK: dict[str, Any] = {"share_percent": 50, "interval_seconds": 0.1, "slower_percent": 0, "deadline_seconds": 60}
ONCE = [("start", "1.4.0")]
RENEWED = [*ONCE, ("stop", "1.4.0"), ("start", "1.5.0")]


def page(client: Client, viewer: Person, operation: Operation) -> str:
    client.force_login(viewer)
    return " ".join(client.get(reverse("canary", args=[operation.pk])).content.decode().split())


def sides(operation: Operation) -> tuple[int, int]:
    rows = list(CanarySample.objects.filter(operation=operation))
    return sum(row.canary_requests for row in rows), sum(row.baseline_requests for row in rows)


@pytest.fixture
def three(street: Make) -> Street:
    return street(3)


def test_a_good_one_is_brought_to_all_and_nobody_sees_a_failure(three: Street, client: Client, dana: Person) -> None:
    three.configure("canary", requests=200, **QUICK)
    with requests(three) as heard:
        operation = three.deploy("1.5.0")
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert three.park.versions() == ["1.5.0"] * 3
    assert three.weights() == [100] * 3
    assert [three.park.effects(number) for number in (1, 2, 3)] == [RENEWED] * 3
    assert heard.failed == 0 < heard.sent, heard
    ours, theirs = sides(operation)
    assert ours >= 200 <= theirs
    assert ours / (ours + theirs) == pytest.approx(0.5, abs=0.1), "its share of the requests, as HAProxy counted them"
    done = list(Effect.objects.filter(operation=operation).order_by("pk").values_list("what", "subject"))
    first = done.index(("deregistered", "production-2"))
    assert done.index(("judged", "production-1")) < first, "nobody else is touched before the verdict"
    said = page(client, dana, operation)
    assert "<b>No worse.</b> The canary is no worse than the others: canary 0 % of " in said


def test_a_bad_one_is_found_by_what_haproxy_counted_and_put_back(three: Street, client: Client, dana: Person) -> None:
    three.configure("canary", requests=50_000, **QUICK)
    with requests(three) as heard:
        operation = three.deploy("1.8.0")
    assert operation.state == State.FAILED
    assert "The canary fails more than the others" in operation.outcome
    assert operation.outcome.endswith("Never touched: production-2, production-3.")
    assert three.park.versions() == ["1.4.0"] * 3
    assert three.weights() == [100] * 3
    assert three.park.effects(1) == [*ONCE, ("stop", "1.4.0"), ("start", "1.8.0"), ("stop", "1.8.0"), *ONCE]
    assert three.park.effects(2) == three.park.effects(3) == ONCE
    counted = three.counted()
    assert heard.ways == {"status 500"}
    assert counted["production-1"].errors == heard.failed > 0, "each failure was the canary's"
    assert counted["production-2"].errors == counted["production-3"].errors == 0
    verdict = CanaryVerdict.objects.get(operation=operation)
    told = re.fullmatch(
        r"The canary fails more than the others: canary (\d+) % of (\d+) requests failed, answered in \d+ ms; "
        r"others 0 % of (\d+) requests failed, answered in \d+ ms\.", verdict.words,
    )  # fmt: skip
    assert told, verdict.words
    assert (int(told[2]), int(told[3])) == sides(operation)
    assert 10 <= int(told[1]) <= 40
    said = page(client, dana, operation)
    assert f"<b>Worse.</b> {verdict.words}" in said
    assert said.count('<path class="ours"') == said.count('<path class="others"') == 2


@pytest.mark.parametrize(
    ("then", "ends"),
    [
        ("abort", (State.FAILED, "1.4.0", "So it goes back (without_verdict).")),
        ("proceed", (State.SUCCEEDED, "1.5.0", "It goes on all the same (without_verdict).")),
    ],
)
def test_too_little_traffic_ends_as_the_settings_say(
    street: Make, client: Client, dana: Person, then: str, ends: tuple[State, str, str]
) -> None:
    two = street(2)
    two.configure("canary", requests=4000, **{**QUICK, "deadline_seconds": 1}, without_verdict=then)
    with requests(two, rate=20) as heard:
        operation = two.deploy("1.5.0")
    assert (operation.state, {*two.park.versions()}) == (ends[0], {ends[1]}), operation.outcome
    assert two.weights() == [100, 100]
    assert heard.failed == 0 < heard.sent, heard
    verdict = CanaryVerdict.objects.get(operation=operation)
    assert verdict.outcome == "none"
    assert verdict.words.startswith(f"No verdict yet, after {min(sides(operation))} of 4000 requests a side: ")
    assert verdict.words.endswith(ends[2])
    said = page(client, dana, operation)
    assert f"<b>No verdict.</b> {verdict.words}" in said


def test_a_worker_that_is_killed_while_it_watches_is_followed_by_another(three: Street, data_dir: Path) -> None:
    three.configure("canary", requests=300, **QUICK)
    operation = three.ask("1.5.0")
    watched = CanarySample.objects.filter(operation=operation)
    with requests(three) as heard:
        with worker(operation.pk, data_dir) as process:
            assert wait_until(lambda: watched.count() >= 3, 30)
            process.kill()
            process.wait()
        seen = watched.count()
        before = three.park.effects(1)
        Operation.objects.filter(pk=operation.pk).update(lease_until=Now() - timedelta(seconds=1))
        three.run(operation, "w2")
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert before == RENEWED
    assert [three.park.effects(number) for number in (1, 2, 3)] == [RENEWED] * 3, "nothing was done twice"
    assert three.weights() == [100] * 3
    assert heard.failed == 0, heard
    said = list(Event.objects.filter(operation=operation).values_list("text", flat=True))
    assert [line for line in said if line.startswith(f"goes on from {seen} samples: No verdict yet")]
    assert CanaryVerdict.objects.get(operation=operation).outcome == "good"
    counted = three.counted()
    ours, _ = sides(operation)
    assert ours <= counted["production-1"].requests, "what came in between was counted once"
