"""What an engine itself wrote down: every start of a container, with the labels that say by whose order."""

import json
from typing import Any

from controlplane.embedded.podman import Podman
from environments.drivers.hosts.engine import LABEL


def starts(podman: Podman) -> list[dict[str, Any]]:
    """Each start, the first one first: instance, operation, digest, version, and at (RFC 3339).

    fence: of the worker that made the container; None for a copy that was kept, which another may rightly start.
    """
    lines = podman.run("events", "--stream=false", "--format", "json", "--filter", "event=start").splitlines()
    told = [(found := json.loads(line), _labels(found)) for line in lines]
    return [
        {
            "event": "start",
            "instance": labels["instance"],
            "environment": labels["environment"],
            "operation": labels["operation"],
            "digest": labels["digest"],
            "version": labels["version"],
            "fence": None if labels.get("kept") else labels["fence"],
            "at": line["Time"],
        }
        for line, labels in told
        if "operation" in labels
    ]


def _labels(line: dict[str, Any]) -> dict[str, str]:
    """Those of the control plane."""
    return {key.removeprefix(LABEL): value for key, value in (line.get("Attributes") or {}).items()}
