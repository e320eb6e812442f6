"""Whatever is killed or frozen, there are never two primaries, and no order is lost that was promised."""

import pytest

from tests.chaos.__main__ import WRONG_FAILOVER
from tests.chaos.failover.customers import Acknowledged, two_primaries
from tests.chaos.short import figures_of


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_bad_luck_makes_no_two_primaries_and_loses_nothing_promised() -> None:
    figures = figures_of("failover --rounds 8 --fleets 3", WRONG_FAILOVER)
    assert figures["struck"] > 3 and figures["acknowledged"] > 500, "nothing was struck, or nobody ordered anything"


def order(site: str, begun: float) -> Acknowledged:
    return Acknowledged("x", site, begun, begun + 0.01)


def test_the_judge_sees_two_primaries() -> None:
    assert two_primaries([order("home", 1), order("home", 2), order("away", 3), order("away", 4)], "home", "away") == 0
    assert two_primaries([order("home", 1), order("away", 3), order("home", 4)], "home", "away") == 1
    assert two_primaries([order("home", 1)], "home", "away") == 0
