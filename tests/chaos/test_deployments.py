"""Whatever is killed or frozen, a deployment ends as its plan says, and nothing is started twice."""

import pytest

from tests.chaos import fleets
from tests.chaos.__main__ import WRONG
from tests.chaos.short import figures_of


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_bad_luck_changes_nothing() -> None:
    assert figures_of("--rounds 24", WRONG)["struck"] > 12, "the faults hit nothing"


def start(instance: str, operation: int, fence: int, digest: str = "d") -> dict[str, object]:
    return {"event": "start", "instance": instance, "operation": operation, "fence": fence, "digest": digest}


def test_the_judge_sees_a_second_start() -> None:
    assert fleets.repeated([start("a", 1, 1), start("b", 1, 1), start("a", 2, 2)]) == 0
    assert fleets.repeated([start("a", 1, 1), start("a", 1, 2)]) == 1


def test_the_judge_sees_a_start_by_a_worker_that_was_lost() -> None:
    assert fleets.stale([start("a", 1, 1), start("a", 1, 2), start("b", 1, 1)]) == 0
    assert fleets.stale([start("a", 1, 2), start("a", 1, 1)]) == 1
