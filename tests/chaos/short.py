"""A short run of bin/chaos, as a test starts it. Long: `bin/chaos --rounds 300`, `bin/chaos backups --rounds 200` …"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from controlplane.embedded.place import CHECKOUT

NO_CONTAINERS = "Podman cannot run containers here"


def figures_of(arguments: str, wrong: Sequence[str]) -> dict[str, Any]:
    """What it counted; everything that would be wrong is none, and all its rounds were run."""
    command = [sys.executable, "-m", "tests.chaos", *arguments.split(), "--json"]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if NO_CONTAINERS in run.stderr:
        pytest.skip(run.stderr.strip().splitlines()[-1])
    assert run.stdout, run.stderr
    figures: dict[str, Any] = json.loads(run.stdout)
    assert {key: figures[key] for key in wrong} == dict.fromkeys(wrong, 0), run.stderr
    words = arguments.split()
    assert figures["rounds"] == int(words[words.index("--rounds") + 1])
    return figures
