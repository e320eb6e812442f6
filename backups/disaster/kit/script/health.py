"""Asking over HTTP whether somebody is served: the sides before, the new one after, and people's own address."""

import time
import urllib.error
import urllib.request
from functools import partial

from backups.disaster.kit.script.errors import Passing
from backups.disaster.kit.script.running import Look, Run, State, Step

GOOD_IN_A_ROW = 3
TIMEOUT_SECONDS = 5.0
SERVED_SECONDS = 1800.0  # people's resolvers keep the old address for as long as the TTL was


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer from elsewhere says nothing of the one that was asked."""

    def redirect_request(self, *arguments: object) -> None:
        return None


_http = urllib.request.build_opener(_NoRedirect)


def heard(url: str) -> tuple[bool, str]:
    """Whether an address answers 200, and what was heard."""
    begun = time.monotonic()
    try:
        with _http.open(url, timeout=TIMEOUT_SECONDS) as answer:
            answer.read(65_536)
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        status = int(error.code)
    except (OSError, ValueError) as error:
        return False, f"no answer ({error})"
    return status == 200, f"answered {status} in {(time.monotonic() - begun) * 1000:.0f} ms"


def asking(key: str, title: str, url: str) -> Step:
    """Until it answers well, some times in a row."""
    return Step(key, title, partial(_health_look, url), seconds=SERVED_SECONDS)


def _health_look(url: str, run: Run) -> Look:
    for _ in range(GOOD_IN_A_ROW):
        good, words = heard(url)
        if not good:
            raise Passing(f"{url} {words}.")
    return Look(State.DONE, f"{url} {words}, {GOOD_IN_A_ROW} times in a row")
