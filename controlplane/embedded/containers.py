"""Whether the demo's staging runs in containers here, and in which words that is said.

It does where this computer has a Podman that truly starts one for whoever runs bin/run, unless --no-containers was
given; with --containers it has to. What is decided last is kept in staging.json in the data folder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from .files import read_json, write_private_json
from .podman import Podman, why_not

ENVIRONMENT = "staging"
FILE = "staging.json"

INSTALL = "Install what is missing (on Debian: apt-get install podman runc), then start bin/run again."
AGAIN = "Start bin/run again without --no-containers."
MEND = "docs/drivers-hosts.md says under Podman what may be in its way; then start bin/run again."


class Wish(StrEnum):
    """What was asked of bin/run."""

    IF_POSSIBLE = "if possible"
    ALWAYS = "--containers"
    NEVER = "--no-containers"


@dataclass(frozen=True)
class Choice:
    """why: why staging does not run in containers, "" where it does. how: what would turn it on, in one sentence."""

    why: str = ""
    how: str = ""

    @property
    def words(self) -> str:
        """For the page of the environment and for the terminal."""
        if not self.why:
            return "It runs in containers on this computer's Podman. bin/run --no-containers turns that off."
        return f"It runs as local processes: {self.why}. {self.how}".strip()

    def keep(self, data: Path) -> None:
        """For whoever asks `kept`."""
        write_private_json(data / FILE, asdict(self))

    @classmethod
    def kept(cls, data: Path) -> Choice:
        """What was decided last in that data folder."""
        return cls(**read_json(data / FILE))


def podman_of(data: Path) -> Podman:
    """The Podman of a data folder."""
    return Podman(data.absolute() / "podman")


def look(data: Path, wish: Wish) -> Choice:
    """Whether containers run here: by running one, which takes about a second."""
    if wish is Wish.NEVER:
        return Choice("bin/run was started with --no-containers", AGAIN)
    if words := why_not():
        return Choice(words, INSTALL if "installed" in words else "")
    if words := podman_of(data).try_it():
        return Choice(f"Podman cannot run containers here ({words})", MEND)
    return Choice()
