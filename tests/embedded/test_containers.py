"""Staging's containers: whether they run here is tried, said in words, and leaves nothing behind."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.embedded.containers import AGAIN, INSTALL, Choice, Wish, look, podman_of
from controlplane.embedded.errors import StackError
from controlplane.embedded.place import CHECKOUT
from controlplane.embedded.podman import Podman, why_not
from controlplane.embedded.stack import Stack, open_data_folder
from controlplane.embedded.supervisor import Supervisor, parse

GIVEN = {"DATABASE_URL": "postgres://elsewhere/db", "REDIS_URL": "redis://elsewhere", "SECRET_KEY": "given"}
NOBODY = 65_534
REFUSES = "#!/bin/sh\necho 'Error: cannot clone: Operation not permitted' >&2\nexit 125\n"


@pytest.fixture
def podman(data: Path) -> Iterator[Podman]:
    """That of the data folder, which truly runs containers."""
    if words := why_not():
        pytest.skip(words)
    open_data_folder(data)
    ours = podman_of(data)
    if look(data, Wish.IF_POSSIBLE) != Choice():
        ours.delete()
        pytest.skip("Podman cannot run containers here")
    yield ours
    ours.delete()


def run_one(podman: Podman) -> str:
    """A container that stays; its id."""
    folders = [name for name in ("/usr", "/lib", "/lib64") if Path(name).exists()]
    mounts = [part for name in folders for part in ("--volume", f"{name}:{name}:ro")]
    how = ["--detach", "--network", "host", "--name", "one", "--stop-signal", "SIGKILL", *mounts]
    return podman.run("run", *how, "localhost/trial:1", "/usr/bin/sleep", "60")


def traces(podman: Podman) -> list[str]:
    """Processes, mounts and folders that a Podman has outside of its own folder."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line for line in done if str(podman.passing) in line]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(podman.folder) in line]
    return found + [str(podman.passing) for _ in range(podman.passing.exists())]


def test_a_computer_without_podman_is_told_what_to_install(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    choice = look(data, Wish.IF_POSSIBLE)
    assert choice == Choice("podman is not installed", INSTALL)
    assert choice.words == (
        "It runs as local processes: podman is not installed. "
        "Install what is missing (on Debian: apt-get install podman runc), then start bin/run again."
    )
    assert not data.exists(), "nothing was begun"


def test_a_podman_that_cannot_start_one_is_quoted(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_data_folder(data)
    programs = data / "programs"
    programs.mkdir()
    for name in ("podman", "runc"):
        (programs / name).write_text(REFUSES)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    choice = look(data, Wish.IF_POSSIBLE)
    podman_of(data).leave()
    assert choice.why == "Podman cannot run containers here (cannot clone: Operation not permitted)"
    assert "docs/drivers-hosts.md" in choice.how
    assert traces(podman_of(data)) == []


def test_no_containers_tries_nothing(data: Path) -> None:
    assert look(data, Wish.NEVER) == Choice("bin/run was started with --no-containers", AGAIN)
    assert not data.exists()


@pytest.mark.parametrize(
    ("given", "wish"), [([], Wish.IF_POSSIBLE), (["--containers"], Wish.ALWAYS), (["--no-containers"], Wish.NEVER)]
)
def test_the_command_line_says_what_is_wished(given: list[str], wish: Wish) -> None:
    assert parse(given).wish is wish


def test_who_insists_is_told_why_not(data: Path) -> None:
    supervisor = Supervisor(Stack(data, environ=GIVEN), 8000, [])
    without = Choice("podman is not installed", INSTALL)
    supervisor.insist(Wish.IF_POSSIBLE, without)
    with pytest.raises(StackError, match=r"staging cannot run in containers: podman is not installed\. Install what"):
        supervisor.insist(Wish.ALWAYS, without)


def test_one_that_left_has_no_process_no_mount_and_no_file_outside(podman: Podman) -> None:
    podman.start()
    run_one(podman)
    assert traces(podman), "it is seen while it is there"
    podman.leave()
    assert traces(podman) == []
    podman.make_ready()
    assert podman.run("ps", "--all", "--format", "{{.Names}}", "--filter", "status=exited") == "one"
    podman.run("start", "one")
    assert podman.run("ps", "--format", "{{.Names}}") == "one", "what it keeps is as it was"


def test_one_whose_starter_was_killed_goes_on_and_is_left_by_the_next(podman: Podman) -> None:
    folder = str(podman.folder)
    code = "import sys; from pathlib import Path; from controlplane.embedded.podman import Podman as P; "
    ours = subprocess.Popen([sys.executable, "-c", f"{code}P(Path(sys.argv[1])).become()", folder], cwd=CHECKOUT)
    run_one(podman)
    ours.kill()
    ours.wait()
    later = Podman(podman.folder)
    later.start()
    assert later.run("ps", "--format", "{{.Names}}") == "one"
    later.leave()
    assert traces(podman) == []


def test_a_folder_that_was_moved_begins_anew(podman: Podman, data: Path) -> None:
    run_one(podman)
    podman.leave()
    moved = data.with_name("moved")
    shutil.copytree(data / "podman", moved, symlinks=True)
    other = Podman(moved)
    try:
        assert other.try_it() == ""
        assert other.run("ps", "--all", "--quiet") == ""
    finally:
        other.delete()
    assert traces(other) == []


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="needs root, to become another")
def test_an_ordinary_user_runs_them_too(podman: Podman, spacious: Path) -> None:
    """Without an own range of user ids, a home, or a session of systemd."""
    home = spacious / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    code = (
        "import sys; from pathlib import Path; from controlplane.embedded.podman import Podman as P; "
        "p = P(Path(sys.argv[1])); print(p.try_it()); p.leave(); print(p.passing)"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        ["/usr/bin/python3", "-P", "-c", code, str(home / "podman")], user=NOBODY, group=NOBODY, extra_groups=[],
        env=env, cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, passing = done.stdout.splitlines()[-2:]
    if "user namespace" in said or "not permitted" in said:
        pytest.skip(f"ordinary users may not run containers here: {said}")
    assert said == ""
    assert not Path(passing).exists()
    ours = Podman(home / "podman")
    ours.passing = Path(passing)
    assert traces(ours) == []
