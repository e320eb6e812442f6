"""A worker's process that carries out one operation: what it took of time, memory and disk, as JSON.

python -m tests.benchmarks.backup_worker OPERATION
"""

import json
import re
import sys
import time
from pathlib import Path

import django


def main(operation_id: int) -> None:
    django.setup()

    from controlplane.celery import app  # noqa: PLC0415 -- all of what a worker has loaded, after the set-up
    from controlplane.operations import engine  # noqa: PLC0415

    app.loader.import_default_modules()
    began = time.perf_counter()
    engine.run(operation_id, "bench")
    seconds = time.perf_counter() - began
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    # Of this process and of those it waited for: what it sent to a disk.
    written = re.search(r"^write_bytes: (\d+)", Path("/proc/self/io").read_text(), re.M)
    assert peak and written
    print(json.dumps({"seconds": seconds, "rss_mb": int(peak[1]) / 1024, "temp_mb": int(written[1]) / 1e6}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
