"""A data folder has one holder at a time, and the next one is told who it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.embedded.lock import HeldError, hold
from controlplane.embedded.place import CHECKOUT

HOLDER = """
import sys
from pathlib import Path
from controlplane.embedded.lock import hold
with hold(Path(sys.argv[1]), "bin/run on http://127.0.0.1:8000"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_one_hears_who_holds_it(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HeldError) as refusal, hold(tmp_path, "pytest"):
            pytest.fail("two held it")
        for word in (str(tmp_path), str(holder.pid), "bin/run on http://127.0.0.1:8000", "since", "--data"):
            assert word in str(refusal.value)
        holder.kill()
    with hold(tmp_path, "pytest"):
        pass  # a killed holder holds nothing


def test_it_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with hold(tmp_path, "pytest"):
            pass
