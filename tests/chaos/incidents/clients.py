"""Who sends alerts and who acknowledges: threads that try again until they know that it was done, as real ones do."""

import http.client
import json
import threading
import time
from collections.abc import Callable

RETRY_SECONDS = 0.3
GIVE_UP_SECONDS = 90.0


class Client(threading.Thread):
    """One wish, repeated until it is granted. done: epoch seconds of when the client knew; None: not yet."""

    def __init__(self, once: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self._once = once
        self.began = time.time()
        self.done: float | None = None
        self.last_error = ""

    def run(self) -> None:
        """Try until it is done, or it never will be."""
        while time.time() - self.began < GIVE_UP_SECONDS:
            try:
                if self._once():
                    self.done = time.time()
                    return
            except (OSError, http.client.HTTPException) as error:
                self.last_error = repr(error)
            time.sleep(RETRY_SECONDS)  # the pace of a client, not a wait for anything


def send(port: int, path: str, token: str, body: object) -> tuple[int, bytes]:
    """POST JSON; status and answer. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def alert(port: int, token: str, case: str, *, critical: bool) -> Client:
    """Somebody's monitoring says that something is wrong, until it is told 2xx."""
    body = {
        "name": "ChaosReigns", "severity": "critical" if critical else "warning", "environment": "chaos",
        "labels": {"case": case}, "summary": case,
    }  # fmt: skip

    def once() -> bool:
        return 200 <= send(port, "/intake/plain", token, body)[0] < 300

    return Client(once)


def acknowledge(port: int, token: str, incident: int) -> Client:
    """By the API; somebody who is told that it is acknowledged already knows it too."""

    def once() -> bool:
        return send(port, f"/api/v1/incidents/{incident}/acknowledge", token, {})[0] in (200, 409)

    return Client(once)


def resolve(port: int, token: str, incident: int) -> Client:
    """By the API."""

    def once() -> bool:
        status, _ = send(port, f"/api/v1/incidents/{incident}/resolve", token, {"resolution": "chaos is over"})
        return status in (200, 409)

    return Client(once)
