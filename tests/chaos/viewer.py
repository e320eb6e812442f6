"""Somebody who watches an operation's live stream through everything, and notes each number they saw."""

import http.client
import threading
from collections import Counter


class Viewer(threading.Thread):
    """Reads `/live/operations/ID`, comes back with its cursor after every cut, until told to stop."""

    def __init__(self, port: int, operation_id: int, token: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.operation_id = operation_id
        self.token = token
        self.seen: Counter[int] = Counter()
        self.cursor = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                if self._watch():
                    return
            except (OSError, http.client.HTTPException, ValueError):
                pass
            self.stopped.wait(0.5)

    def _watch(self) -> bool:
        """One connection; True when the stream said that it is at its end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"Authorization": f"Bearer {self.token}"}
            connection.request("GET", f"/live/operations/{self.operation_id}?after={self.cursor}", headers=headers)
            with connection.getresponse() as answer:
                return answer.status == 200 and self._read(answer)
        finally:
            connection.close()

    def _read(self, answer: http.client.HTTPResponse) -> bool:
        number, event = 0, ""
        while not self.stopped.is_set():
            line = answer.readline().decode()
            if not line:
                return False
            if line.startswith("id:"):
                number = int(line[3:])
            elif line.startswith("event:"):
                event = line[6:].strip()
            elif line == "\n":
                # A message counts once it is whole: the cursor moves with it.
                if number and event == "line":
                    self.seen[number] += 1
                    self.cursor = max(self.cursor, number)
                if event == "end":
                    return True
                number, event = 0, ""
        return True
