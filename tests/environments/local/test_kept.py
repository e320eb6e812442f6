"""Local instances could go back while the files of the release are there."""

import sys
from pathlib import Path

from controlplane.operations.gates import Outcome
from environments.drivers import DRIVERS
from environments.drivers.base import Keeping, Kept
from environments.targets import target_of
from tests.environments.conftest import MakeFleet
from tests.environments.fleet import Fleet, release


def kept(fleet: Fleet, version: str) -> Kept:
    driver = DRIVERS["local"]
    assert isinstance(driver, Keeping)
    return driver.kept(target_of(fleet.placement), release(version))


def test_the_sample_service_runs_every_version(fleet: MakeFleet) -> None:
    found = kept(fleet(2), "1.4.0")
    assert found == Kept(Outcome.PASSED, "the program that runs 1.4.0, as it does every version, is there")


def test_the_folder_of_a_release_has_to_be_there(fleet: MakeFleet, tmp_path: Path) -> None:
    program = tmp_path / "releases" / "1.4.0" / "service.py"
    program.parent.mkdir(parents=True)
    program.touch()
    production = fleet(2, program=["{python}", f"{tmp_path}/releases/{{version}}/service.py", "--path", "/health"])
    assert kept(production, "1.4.0") == Kept(Outcome.PASSED, "the files of 1.4.0 are still there")
    program.unlink()
    found = kept(production, "1.4.0")
    assert found.outcome is Outcome.FAILED
    assert found.words == f"1.4.0 cannot be started again: {program} is not there. Put it back."


def test_what_starts_it_has_to_be_there(fleet: MakeFleet) -> None:
    assert kept(fleet(1, program=[sys.executable, "-c", "pass"]), "1.4.0").outcome is Outcome.PASSED
    found = kept(fleet(1, "staging", program=["no-such-program-here", "{version}"]), "1.4.0")
    assert (found.outcome, "no-such-program-here is not there" in found.words) == (Outcome.FAILED, True)
