"""Whatever is killed or frozen, no backup is called good that is none."""

import pytest

from tests.chaos.__main__ import WRONG_BACKUPS
from tests.chaos.short import figures_of


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_bad_luck_makes_no_backup_green_that_is_none() -> None:
    figures = figures_of("backups --rounds 10 --fleets 4", WRONG_BACKUPS)
    assert figures["over"] and figures["moments"], "nothing was restored over a database in use, or to a moment"
    assert figures["struck"] > 4 and figures["judged"] > 4, "the faults hit nothing, or there was nothing to judge"
