"""Makes the checkout's virtual environment from requirements.txt, once; afterwards it only looks at a stamp.

The stamp names the requirements' hash and the Python version. It is written last, so a set-up that was interrupted
is done again, and a later one needs no network.
"""

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

INSTALL = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-qq", "--require-hashes"]


def main(root: Path) -> str | None:
    """What went wrong, in words."""
    venv, requirements = root / ".venv", root / "requirements.txt"
    stamp = venv / "stamp"
    wanted = f"{platform.python_version()} {hashlib.sha256(requirements.read_bytes()).hexdigest()}"
    if has(stamp, wanted):
        return None
    if not os.access(root, os.W_OK):
        return (
            f"{root} is not writable for you, so it cannot hold the virtual environment. Clone it to a folder of yours."
        )
    with requirements.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another command is setting up the virtual environment; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        return None if has(stamp, wanted) else install(venv, requirements, stamp, wanted)


def install(venv: Path, requirements: Path, stamp: Path, wanted: str) -> str | None:
    python = venv / "bin" / "python"
    began = time.monotonic()
    say("Setting up the virtual environment (once; a minute or two) …")
    if not runs(python, platform.python_version()):
        made = subprocess.run([base_python(), "-m", "venv", "--clear", str(venv)], check=False)
        if made.returncode != 0:
            return (
                f"Python's venv could not make {venv} (see above). "
                "On Debian: apt-get install python3-venv, then start again."
            )
    stamp.unlink(missing_ok=True)
    if subprocess.run([str(python), *INSTALL, "-r", str(requirements)], check=False).returncode != 0:
        return "pip could not install requirements.txt (see above). What is there is kept; start again to go on."
    stamp.write_text(wanted)
    say(f"Set up in {time.monotonic() - began:.0f} s.")
    return None


def base_python() -> str:
    """The interpreter outside of any virtual environment: the one that is running may be about to be replaced."""
    return str(getattr(sys, "_base_executable", sys.executable))


def has(stamp: Path, wanted: str) -> bool:
    try:
        return stamp.read_text() == wanted
    except OSError:
        return False


def runs(python: Path, version: str) -> bool:
    """Whether the environment is there, whole enough to go on with, and of this version."""
    question = "import pip, platform; print(platform.python_version())"
    try:
        answer = subprocess.run([str(python), "-c", question], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == version


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    trouble = main(Path(sys.argv[1]))
    if trouble:
        sys.exit(trouble)
