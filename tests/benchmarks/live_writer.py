"""The worker's part: `python -m tests.benchmarks.live_writer OPERATION LINES RATE`.

Claims the operation, prints its last number, waits for a line on its standard input, then says lines as a step does.
"""

import sys
import time

import django

django.setup()

from controlplane.operations.claims import claim  # noqa: E402
from controlplane.operations.events import LogWriter  # noqa: E402
from controlplane.operations.lease import Lease  # noqa: E402
from controlplane.operations.models import Operation  # noqa: E402
from tests.operations import recipes  # noqa: E402

SECRETS = [f"secret-number-{number}-of-the-environment" for number in range(10)]
TEXT = "t={:.6f} host-2: GET /health answered 200 in 12 ms, request {:08x}"


def main(operation: int, lines: int, rate: int) -> None:
    recipes.register()
    recipes.reset().plan = recipes.empty_plan(1)
    claimed = claim(operation, "bench")
    assert claimed
    log = LogWriter(operation, claimed.fence, SECRETS)
    with Lease(claimed, log):
        print(Operation.objects.values_list("last_seq", flat=True).get(pk=operation), flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        for number in range(lines):
            said = began + number / rate
            time.sleep(max(0.0, said - time.monotonic()))
            log.line(TEXT.format(said, number))
        log.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
