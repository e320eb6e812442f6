"""The auditor shares no code path with the engine: it loads nothing of Django, and nothing of ours but itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADED = """
import sys
import incidents.auditor.__main__
print("\\n".join(sorted(sys.modules)))
"""


def test_it_loads_nothing_of_the_engine() -> None:
    run = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "incidents.auditor.invariants" in loaded
    for stranger in ("django", "redis", "celery", "httpx", "controlplane", "environments", "deployments", "backups"):
        assert not {name for name in loaded if name.split(".")[0] == stranger}
    ours = {name for name in loaded if name.split(".")[0] == "incidents"}
    assert not {name for name in ours if name != "incidents" and not name.startswith("incidents.auditor")}
