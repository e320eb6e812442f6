"""The same for hosts that run containers behind a load balancer."""

import pytest

from controlplane.embedded.podman import why_not
from tests.chaos.__main__ import WRONG
from tests.chaos.short import figures_of
from tests.environments.balancers.running import WHY_NOT


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(why_not() or WHY_NOT), reason=why_not() or WHY_NOT or "both are there")
def test_bad_luck_changes_nothing_on_hosts_behind_a_load_balancer() -> None:
    figures = figures_of("--driver hosts --rounds 9 --fleets 3", WRONG)
    assert figures["struck"] > 4 and figures["service_starts"] >= 18, "the faults hit nothing, or nothing was started"
