"""Loopback ports for instances that have no address of their own, kept so that addresses stay the same."""

import fcntl
import json
import random
import socket
from pathlib import Path

from django.conf import settings

from controlplane.operations.errors import StepError

# Below the ports that the system gives to outgoing connections.
FIRST, LAST = 20_000, 32_000


def address_for(environment: str, instance: str) -> str:
    """The address that was given out before, else a free one. Raises StepError when the file cannot be kept."""
    path = Path(settings.DATA_DIR) / "instances" / "ports.json"
    key = f"{environment}/{instance}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            ports: dict[str, int] = json.loads(file.read() or "{}")
            if key not in ports:
                ports[key] = _free(set(ports.values()))
                file.seek(0)
                file.truncate()
                json.dump(ports, file, indent=2, sort_keys=True)
    except (OSError, ValueError) as error:
        raise StepError(f"{path} cannot be read and written: {error}", permanent=True) from error
    return f"http://127.0.0.1:{ports[key]}"


def _free(taken: set[int]) -> int:
    for port in random.sample(range(FIRST, LAST), 200):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port on 127.0.0.1")
