"""Each process of a test run gives out ports of its own, and none that the programs it starts would choose.

Otherwise two tests that run at once may be given the same port before either listens on it.
"""

import pytest

from controlplane.embedded import processes

# Below those that the embedded servers choose from.
PORTS = range(10_000, processes.PORTS.start)


def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", {"workerid": "gw0", "workercount": 1})
    share = len(PORTS) // worker["workercount"]
    first = PORTS.start + int(worker["workerid"].removeprefix("gw")) * share
    processes.PORTS = range(first, first + share)
