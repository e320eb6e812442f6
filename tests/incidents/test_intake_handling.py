"""One bad body stops no other; what is stored is handled once, whoever dies in between."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction

from incidents.intake import grouping, handling, keeping
from incidents.models import Alert, AlertSource, Incident, RawAlert
from tests.incidents.alerting import body, later, one, rule, source, stored, the_incident, tick


@pytest.fixture
def alertmanager(db: None) -> AlertSource:
    return source()


def states() -> list[str]:
    return list(RawAlert.objects.order_by("pk").values_list("state", flat=True))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "EOF"), (b"{", "EOF"), (b"[]", "object"), (b"\xff\xfe", "JSON"),
        (b'{"version": "3", "alerts": []}', "version"),
        (b'{"version": "4", "alerts": [{"status": "firing", "labels": {}}]}', "alerts[0].startsAt"),
        (b'{"version": "4", "alerts": [{"status": "perhaps"}]}', "alerts[0].status"),
        (b"[" * 200_000, "JSON"),
        (json.dumps({"version": "4", "alerts": [one.__name__]}).encode(), "alerts[0]"),
    ],
)  # fmt: skip
def test_garbage_is_kept_with_the_reason_and_stops_nothing(
    alertmanager: AlertSource, content: bytes, words: str
) -> None:
    stored(alertmanager, content)
    stored(alertmanager, body(one()))
    handling.handle_stored()
    assert states() == ["failed", "handled"]
    assert words in RawAlert.objects.first().error  # type: ignore[union-attr]
    assert Alert.objects.count() == 1


def test_too_many_labels_are_not_understood(alertmanager: AlertSource) -> None:
    stored(alertmanager, body(one(started=None, **{f"l{number}": "x" for number in range(70)})))
    handling.handle_stored()
    assert states() == ["failed"]


def test_odd_characters_are_kept_as_far_as_they_can_be(alertmanager: AlertSource) -> None:
    stored(alertmanager, body(one("a\x00b", pod="p\x00" + "x" * 5000)))
    handling.handle_stored()
    alert = Alert.objects.get()
    assert alert.name == "a␀b" and len(alert.labels["pod"]) == 2000


def test_a_fault_of_ours_comes_again_later_and_then_waits_for_a_person(
    alertmanager: AlertSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = stored(alertmanager, body(one("Bad"))), stored(alertmanager, body(one("Good")))
    keep = keeping.keep

    def broken(heard: Any) -> int:
        heard = list(heard)
        if any(said.name == "Bad" for one in heard for said in one.said):
            raise ValueError("a fault of ours")
        return keep(heard)

    monkeypatch.setattr(handling, "keep", broken)
    handling.handle_stored()
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, bad.attempts, good.state) == ("stored", 1, "handled")
    assert handling.handle_stored() == 0
    for _ in range(handling.ATTEMPTS - 1):
        later(minutes=1)
        handling.handle_stored()
    bad.refresh_from_db()
    assert bad.state == "failed" and "a fault of ours" in bad.error
    monkeypatch.undo()
    RawAlert.objects.filter(pk=bad.pk).update(state="stored")
    handling.handle_stored()
    assert Alert.objects.count() == 2


def test_the_same_body_twice_is_one_alert_and_one_incident(alertmanager: AlertSource) -> None:
    rule()
    content = body(one(), one("Other"))
    for _ in range(3):
        stored(alertmanager, content)
    tick()
    stored(alertmanager, content)
    tick()
    assert sorted(Alert.objects.values_list("name", "count")) == [("HighErrorRate", 4), ("Other", 4)]
    assert Incident.objects.count() == 2


def test_two_sources_may_use_the_same_fingerprint(alertmanager: AlertSource) -> None:
    alert = one() | {"fingerprint": "abc"}
    stored(alertmanager, body(alert))
    stored(source(token="another-token-of-it", slug="other"), body(alert))
    tick()
    assert Alert.objects.count() == 2


def test_the_texts_are_the_last_ones_and_a_note_stays(alertmanager: AlertSource) -> None:
    alert = one()
    stored(alertmanager, body(alert))
    tick()
    Alert.objects.update(note="Ask Dana.", note_by_name="Alice")
    stored(alertmanager, body({**alert, "annotations": {"summary": "worse now"}}))
    tick()
    found = Alert.objects.get()
    assert (found.summary, found.note, found.note_by_name) == ("worse now", "Ask Dana.", "Alice")


def test_bodies_are_forgotten_when_they_are_old(alertmanager: AlertSource) -> None:
    stored(alertmanager, body(one()))
    stored(alertmanager, b"garbage")
    handling.handle_stored()
    later(days=15)
    assert handling.forget_old() == 1
    later(days=90)
    assert handling.forget_old() == 1
    stored(alertmanager, body(one()))
    later(days=1000)
    assert handling.forget_old() == 0, "what was never handled is never forgotten"


# --- several handlers, and sudden ends ----------------------------------------------------------------


def _in_threads(function: Callable[[], Any], count: int = 2) -> None:
    faults: list[BaseException] = []

    def work() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 (told below)
            faults.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults


@pytest.mark.django_db(transaction=True)
def test_handlers_at_the_same_time_keep_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "AT_ONCE", 5)
    monkeypatch.setattr(handling, "BATCHES_AT_MOST", 1000)
    rule()
    place = source()
    alerts = [one(pod=str(number)) for number in range(10)]
    for number in range(60):
        stored(place, body(*(alerts[(number + step) % 10] for step in range(4))))
    _in_threads(lambda: (handling.handle_stored(), grouping.group_due()), 3)
    tick()
    assert set(states()) == {"handled"}
    assert sum(Alert.objects.values_list("count", flat=True)) == 240
    assert (Alert.objects.count(), the_incident().alert_count, the_incident().firing_count) == (10, 10, 10)


@pytest.mark.django_db(transaction=True)
def test_groupers_at_the_same_time_open_one_incident() -> None:
    rule()
    place = source()
    stored(place, body(*(one(pod=str(number)) for number in range(50))))
    handling.handle_stored()
    _in_threads(grouping.group_due, 4)
    tick()
    assert the_incident().alert_count == 50


@pytest.mark.django_db(transaction=True)
def test_a_handler_that_holds_its_bodies_holds_up_no_others() -> None:
    place = source()
    held, free = stored(place, body(one("Held"))), stored(place, body(one("Free")))
    with transaction.atomic():
        RawAlert.objects.select_for_update().get(pk=held.pk)
        _in_threads(handling.handle_stored, 1)
    free.refresh_from_db()
    held.refresh_from_db()
    assert (held.state, free.state) == ("stored", "handled")


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.django_db(transaction=True)
def test_killed_at_any_statement_nothing_is_lost_or_doubled() -> None:
    """Each run is killed one statement later than the one before; after all that, everything is there once."""
    rule()
    place = source()
    alert = one(environment="")
    number = 0
    while True:
        number += 1
        stored(place, body(alert | {"startsAt": alert["startsAt"]}))
        left = number

        def dies(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return execute(sql, parameters, many, context)

        try:
            with connection.execute_wrapper(dies):
                tick()
        except Killed:
            connection.close()
            tick()
            assert set(states()) == {"handled"}
            assert Alert.objects.get().count == number
            assert the_incident().alert_count == 1
            continue
        break
    assert number > 8
