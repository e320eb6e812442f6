"""The machine itself: every state has a way to an end, and an end has no way out."""

from controlplane.operations.states import ACTIVE, ALLOWED, FINISHED, State


def test_every_state_is_in_exactly_one_group() -> None:
    assert set(State) == ACTIVE | FINISHED
    assert not ACTIVE & FINISHED


def test_nothing_leaves_an_end() -> None:
    assert all(not ALLOWED[state] for state in FINISHED)


def test_every_state_can_come_to_an_end() -> None:
    reaches = set(FINISHED)
    while True:
        more = {state for state in ACTIVE if ALLOWED[state] & reaches} - reaches
        if not more:
            break
        reaches |= more
    assert reaches == set(State)
