"""The public keys of issuers, fetched when they are needed and never trusted for long.

1. A key is used for at most FRESH_SECONDS after it was fetched; then the set is fetched again, so a key that the issuer
   took away is no longer good here either.
2. A token that names an unknown key has the set fetched once more: issuers rotate. But not sooner than PAUSE_SECONDS
   after the last try, whoever asks, so that made-up names make us ask nobody.
3. Where the issuer does not answer, the keys that are known stay good until EXPIRE_SECONDS after they were fetched.

One set an issuer and process, in memory only: they are public, and a new process asks anew.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from controlplane.accounts.programs import CannotTell
from environments.addresses import Answer, NoAnswer, get

FRESH_SECONDS = 600.0
EXPIRE_SECONDS = 3600.0
PAUSE_SECONDS = 30.0
TIMEOUT_SECONDS = 5.0
KEYS_AT_MOST = 50
# What may be signed with which kind of key. Never by a secret that both sides know, and never by none.
ALGORITHMS: Mapping[str, type[RSAKey] | type[ECKey]] = {"RS256": RSAKey, "ES256": ECKey}
# Characters of the modulus in base64: 2,048 bits.
SHORTEST_RSA = 342

Key = RSAKey | ECKey


@dataclass
class _Set:
    keys: dict[str, Key] = field(default_factory=dict)
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")
    problem: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Keys:
    """The sets of all issuers. fetch, now: how to ask an address, and the time in seconds (of tests)."""

    def __init__(self, fetch: Callable[[str, float], Answer] = get, now: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._now = now
        self._sets: dict[str, _Set] = {}
        self._lock = threading.Lock()

    def find(self, url: str, kid: str) -> Key | None:
        """The key of this name in the set at the address, None when there is none. Raises CannotTell."""
        with self._lock:
            known = self._sets.setdefault(url, _Set())
        with known.lock:
            is_stale = self._now() - known.fetched_at >= FRESH_SECONDS
            if is_stale or kid not in known.keys:
                self._refresh(url, known)
            if self._now() - known.fetched_at >= EXPIRE_SECONDS:
                known.keys = {}
                raise CannotTell(f"The keys of the issuer cannot be fetched: {known.problem}.")
            return known.keys.get(kid)

    def _refresh(self, url: str, known: _Set) -> None:
        if self._now() - known.tried_at < PAUSE_SECONDS:
            return
        known.tried_at = self._now()
        try:
            answer = self._fetch(url, TIMEOUT_SECONDS)
        except NoAnswer as error:
            known.problem = str(error)
            return
        listed = answer.json().get("keys")
        if answer.status != 200 or not isinstance(listed, list):
            known.problem = f"it answered {answer.status} without a list of keys"
            return
        known.keys = dict(filter(None, map(_key, listed[:KEYS_AT_MOST])))
        known.fetched_at, known.problem = self._now(), ""


def _key(told: Any) -> tuple[str, Key] | None:
    """One key of a set, by its name; None for what signs no tokens here."""
    if not isinstance(told, dict) or told.get("use", "sig") != "sig":
        return None
    kid, kind = told.get("kid"), told.get("kty")
    if not isinstance(kid, str) or kind not in ("RSA", "EC"):
        return None
    public = {name: told[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in told}
    if kind == "RSA" and len(str(public.get("n", ""))) < SHORTEST_RSA:
        return None
    try:
        key: Key = RSAKey.import_key(public) if kind == "RSA" else ECKey.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return kid, key
