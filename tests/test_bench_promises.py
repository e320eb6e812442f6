"""A benchmark that misses what was promised says so, and by its exit status."""

from typing import Any

import pytest

from tests.benchmarks import canary, rolling, world
from tests.benchmarks.promises import missed

PROMISED = {"failed_requests": (0, 0), "detection_rate": (0.95, 1)}


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"failed_requests": 0, "detection_rate": 0.95}, []),
        ({"failed_requests": 3, "detection_rate": 1.0}, ["failed_requests is 3, and 0 was promised"]),
        ({"failed_requests": 0, "detection_rate": 0.9499}, ["detection_rate is 0.9499, and 0.95 to 1 was promised"]),
        (
            {"not measured": "no Podman"},
            [
                "failed_requests is not measured, and 0 was promised",
                "detection_rate is not measured, and 0.95 to 1 was promised",
            ],
        ),
    ],
)
def test_a_promise_that_is_missed_is_said(figures: dict[str, Any], words: list[str]) -> None:
    assert missed(figures, PROMISED) == words


@pytest.mark.parametrize(
    ("bench", "names"),
    [
        (
            rolling,
            {"failed_requests", "hosts_touched_by_bad_image", "overhead_s_per_host", "ended_wrong", "deployments"},
        ),
        (world, {"max_s", "begun_after_the_click"}),
        (canary, {"detection_rate", "false_abort_rate", "median_requests"}),
    ],
)
def test_what_is_promised_of_deliveries(bench: Any, names: set[str]) -> None:
    assert set(bench.PROMISED) == names
