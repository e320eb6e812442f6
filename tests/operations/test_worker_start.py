"""A worker starts only with settings that fit together, and loads nothing of the pages."""

import os
import subprocess
import sys

LOADED = """
import sys
from controlplane.celery import app
import django
django.setup()
app.loader.import_default_modules()
print(sorted({"ninja", "controlplane.urls", "backups.views"} & set(sys.modules)))
"""


def test_wrong_settings_stop_it() -> None:
    command = [sys.executable, "-m", "celery", "-A", "controlplane.celery", "worker", "-P", "solo"]
    environment = {**os.environ, "OPERATION_LEASE_SECONDS": "1", "OPERATION_HEARTBEAT_SECONDS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "controlplane.E001" in ended.stderr + ended.stdout


def test_it_loads_no_pages() -> None:
    said = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
