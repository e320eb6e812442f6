"""GET operations/ID/events: the whole story in order, at most a thousand at a time, nothing lost between two calls."""

import pytest

from controlplane.accounts.models import Person
from controlplane.operations import events
from controlplane.operations.events import NewEvent
from controlplane.operations.models import Operation
from tests.api.conftest import Caller, Calls
from tests.estate import Estate

LINES = 2500


@pytest.fixture
def caller(alice: Person, estate: Estate, calls: Calls) -> Caller:
    """Alice, who has asked for a deployment."""
    caller = calls(alice)
    caller.deploy()
    return caller


def path(after: int | None = None) -> str:
    number = Operation.objects.get().pk
    return f"operations/{number}/events" + ("" if after is None else f"?after={after}")


def test_an_event_has_five_fields(caller: Caller) -> None:
    told = caller.get(path()).json()
    assert [one["seq"] for one in told] == [1]
    assert told[0].keys() == {"seq", "at", "kind", "step", "text"}
    assert (told[0]["kind"], told[0]["step"]) == ("state", "")
    assert told[0]["text"] == "asked for by Alice: checkout fix"
    assert told[0]["at"].endswith("Z")


def test_a_long_story_is_read_in_parts(caller: Caller) -> None:
    events.append(Operation.objects.get().pk, [NewEvent("line", f"line {n}", "copy") for n in range(LINES)])
    seen: list[int] = []
    sizes = []
    while part := caller.get(path(seen[-1] if seen else None)).json():
        sizes.append(len(part))
        seen += [one["seq"] for one in part]
    assert sizes == [1000, 1000, 501]
    assert seen == list(range(1, LINES + 2))
    assert caller.get(path(LINES)).json()[0]["text"] == f"line {LINES - 1}"


@pytest.mark.parametrize("after", [1, 10**9, 2**63 - 1])
def test_after_the_last_one_there_is_nothing_yet(caller: Caller, after: int) -> None:
    assert caller.get(path(after)).json() == []


def test_last_seq_is_the_cursor_of_the_newest(caller: Caller) -> None:
    events.append(Operation.objects.get().pk, [NewEvent("line", "one more")])
    last = caller.get(path().removesuffix("/events")).json()["last_seq"]
    assert caller.get(path()).json()[-1]["seq"] == last == 2


def test_the_number_of_queries_is_fixed(caller: Caller, django_assert_max_num_queries: object) -> None:
    events.append(Operation.objects.get().pk, [NewEvent("line", str(n)) for n in range(1000)])
    with django_assert_max_num_queries(5):  # type: ignore[operator]
        caller.get(path())
    with django_assert_max_num_queries(6):  # type: ignore[operator]
        caller.get(path().removesuffix("/events"))
