"""Whether a release could be started again on local instances: its program's own files are looked for."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.conf import settings

from controlplane.operations.gates import Outcome
from environments.drivers.base import Instance, Kept, Software, Target
from environments.drivers.local.driver import folder_of
from environments.drivers.local.steps import PLACE, PROGRAM, instance_folder

OF_THE_RELEASE = ("{version}", "{digest}")


def kept_locally(target: Target, software: Software) -> Kept:
    """The program, and each file or folder whose name in it depends on the release or on where we are installed."""
    program: Sequence[str] = target.settings.get("program") or PROGRAM
    missing = dict.fromkeys(path for one in target.instances for path in _missing(target, one, program, software))
    if missing:
        words = f"{software.version} cannot be started again: {', '.join(missing)} is not there. Put it back."
        return Kept(Outcome.FAILED, words)
    if any(sign in word for word in program for sign in OF_THE_RELEASE if _is_path(word)):
        return Kept(Outcome.PASSED, f"the files of {software.version} are still there")
    return Kept(Outcome.PASSED, f"the program that runs {software.version}, as it does every version, is there")


def _missing(target: Target, instance: Instance, program: Sequence[str], software: Software) -> Iterator[str]:
    folder = instance_folder(folder_of(target, instance)).path
    facts = {"python": sys.executable, "base": str(settings.BASE_DIR), "folder": str(folder), "instance": instance.name,
             "version": software.version, "digest": software.digest}  # fmt: skip
    for number, word in enumerate(program):
        path = PLACE.sub(lambda found: facts.get(found[1], found[0]), word)
        if number == 0 and "/" not in path:
            if shutil.which(path, path=os.environ.get("PATH", os.defpath)) is None:
                yield path
        elif (number == 0 or _is_path(word)) and not (folder / Path(path)).exists():
            yield path


def _is_path(word: str) -> bool:
    """A word that names something of the release's, or of ours; other words may look like paths and be none."""
    ours = "{base}" in word or any(sign in word for sign in OF_THE_RELEASE)
    return ours and "/" in word and "://" not in word and not word.startswith("-")
