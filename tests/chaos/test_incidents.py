"""Whatever is killed or frozen, everybody is paged who has to be, once, and nobody after an acknowledgement."""

import pytest

from tests.chaos.__main__ import WRONG_INCIDENTS
from tests.chaos.short import figures_of


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_bad_luck_pages_nobody_twice_or_afterwards_and_loses_no_page() -> None:
    figures = figures_of("incidents --rounds 12", WRONG_INCIDENTS)
    assert figures["acknowledged"] == figures["cases"]
    assert figures["pages"] > 60 and figures["struck"] > 0, "hardly anything was paged, or nothing was struck"
