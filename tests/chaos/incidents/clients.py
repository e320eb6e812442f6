"""Who sends alerts and who acknowledges: threads that try again until they know that it was done, as real ones do."""

import hashlib
import hmac
import http.client
import json
import re
import threading
import time
from collections.abc import Callable
from urllib.parse import urlencode

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
        with connection.getresponse() as answer:
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


# --- as a person, and as PagerDuty ----------------------------------------------------------------------

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
DONE = re.compile(r"has it already|You have it|Acknowledged by")
FORM = re.compile(r'<form[^>]*action="([^"]*)"')


def by_form(port: int, path: str, session: str, action: str) -> Client:
    """Open a page as a browser does, and send its form whose address says so; without one, the page itself."""

    def once() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            cookies = f"sessionid={session}" if session else ""
            connection.request("GET", path, headers={"Cookie": cookies})
            with connection.getresponse() as answer:
                page = answer.read().decode()
            given = answer.getheader("Set-Cookie", "")
            token, to = TOKEN.search(page), next((form for form in FORM.findall(page) if action in form), "")
            if answer.status != 200 or token is None or (session and not to):
                return answer.status == 200 and DONE.search(page) is not None  # its button is gone: somebody has it
            cookies = "; ".join(filter(None, [cookies, given.partition(";")[0]]))
            headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", to or path, urlencode({"csrfmiddlewaretoken": token[1]}), headers)
            with connection.getresponse() as answer:
                answer.read()
            return answer.status in (200, 302, 303, 409)
        finally:
            connection.close()

    return Client(once)


def by_pagerduty(port: int, secret: str, incident: int) -> Client:
    """Its webhook, signed, as somebody acknowledges over there."""
    data = {"incident_key": f"http://127.0.0.1:{port}/incidents/{incident}"}
    body = json.dumps({"event": {"event_type": "incident.acknowledged", "data": data, "agent": None}})
    signature = hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()

    def once() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            headers = {"X-PagerDuty-Signature": f"v1={signature}", "Content-Type": "application/json"}
            connection.request("POST", "/receipts/pagerduty", body, headers)
            with connection.getresponse() as answer:
                answer.read()
            return answer.status == 202
        finally:
            connection.close()

    return Client(once)
