"""The commands set up their virtual environment once, wherever the checkout is, and say in words why they cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from controlplane.embedded.place import CHECKOUT, can_use

NOBODY = (65534, 65534)


def make_checkout(root: Path) -> Path:
    """A checkout that needs no packages, with a command that says which Python it got."""
    shutil.copytree(CHECKOUT / "bin", root / "bin")
    (root / "requirements.txt").write_text("# nothing\n")
    command = root / "bin" / "which"
    command.write_text((root / "bin/run").read_text().rpartition("exec")[0] + 'echo "$python"\n')
    command.chmod(0o755)
    return root


@pytest.fixture
def fresh(spacious: Path) -> Path:
    """Never set up."""
    return make_checkout(spacious / "my checkout")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_checkout(tmp_path_factory.mktemp("example") / "my checkout")
    assert finish(start(root))[0] == 0
    return root


@pytest.fixture
def ready(example: Path, spacious: Path) -> Path:
    """Set up already (and then moved, which must not matter)."""
    return shutil.copytree(example, spacious / "my checkout", symlinks=True)


def start(root: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [str(root / "bin/which")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", **options
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=50)
    return process.returncode, output, errors


def test_the_second_time_there_is_nothing_to_do_and_nothing_to_say(ready: Path) -> None:
    stamp = ready / ".venv" / "stamp"
    before = stamp.stat().st_mtime_ns
    assert finish(start(ready)) == (0, f"{ready}/.venv/bin/python\n", "")
    assert stamp.stat().st_mtime_ns == before


def test_it_is_done_again_when_the_requirements_change(ready: Path) -> None:
    stamp = ready / ".venv" / "stamp"
    before = stamp.read_text()
    (ready / "requirements.txt").write_text("# still nothing, in other words\n")
    assert finish(start(ready))[0] == 0
    assert stamp.read_text() != before


def test_two_first_starts_at_once_do_not_disturb_each_other(fresh: Path) -> None:
    outcomes = [finish(process) for process in [start(fresh), start(fresh)]]
    assert [status for status, _, _ in outcomes] == [0, 0]
    assert sum("Set up in" in errors for _, _, errors in outcomes) == 1


def test_what_was_interrupted_is_done_again(fresh: Path) -> None:
    (fresh / ".venv" / "bin").mkdir(parents=True)
    (fresh / ".venv" / "bin" / "python").write_text("half of a program")
    assert finish(start(fresh))[0] == 0
    assert (fresh / ".venv" / "stamp").exists()


def test_a_package_that_cannot_be_had_is_said_in_words(ready: Path) -> None:
    (ready / "requirements.txt").write_text("there-is-no-such-package==1.0\n")  # and it has no hash
    status, _, errors = finish(start(ready))
    assert status == 1
    assert "pip could not install requirements.txt" in errors
    assert not (ready / ".venv" / "stamp").exists()


def test_no_python_is_said_in_words(fresh: Path, spacious: Path) -> None:
    tools = spacious / "tools"
    tools.mkdir()
    for tool in ("dirname", "readlink", "sh"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    status, _, errors = finish(start(fresh, env={"PATH": str(tools)}))
    assert status == 1
    assert "Python 3.11 or newer is needed" in errors


def test_a_checkout_of_somebody_else_is_said_in_words(fresh: Path) -> None:
    options: dict[str, object] = {}
    if os.geteuid() == 0:
        if not can_use(NOBODY, Path("/usr/bin/python3")):
            pytest.skip("there is no Python that an ordinary user can run")
        options = {"user": NOBODY[0], "group": NOBODY[1], "extra_groups": [], "env": {"PATH": "/usr/bin:/bin"}}
    else:
        fresh.chmod(0o555)
    status, _, errors = finish(start(fresh, **options))
    fresh.chmod(0o755)
    assert status == 1
    assert "is not writable for you" in errors


def test_the_commands_can_be_called_through_a_link(ready: Path, spacious: Path) -> None:
    link = spacious / "which"
    link.symlink_to(ready / "bin" / "which")
    done = subprocess.run([str(link)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{ready}/.venv/bin/python\n"
