"""Reading a token that an issuer signed for a workflow run (OpenID Connect). It is believed only when all holds:

1. It is short, and has three parts; its header names RS256 or ES256 and a key.
2. Its issuer and its audience, not believed yet, are those of at least one rule: nobody else's keys are ever fetched.
3. The key of that name, of that issuer and of the kind that the algorithm needs, signed it.
4. It is valid now (exp, nbf and iat, with LEEWAY_SECONDS for clocks that differ), and not longer than a day.
5. A rule fits: repository, event, reference, and where the rule says so the repository's number and the environment.
   The first that fits is the one.
"""

import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError

from controlplane.accounts.programs import NotBelieved
from deployments.models import Pipeline
from deployments.pipelines.keys import ALGORITHMS, Keys

LONGEST = 16_384  # characters
LEEWAY_SECONDS = 30
LONGEST_LIFE = 24 * 3600
LONGEST_CLAIM = 300
LONGEST_NAME = 200  # of whoever acts, as rows keep it; the run and who set it off are shorter


@dataclass(frozen=True)
class Run:
    """A workflow run, as its token tells; its text is its name as one who acts.

    sha: the commit it runs for. actor: who set it off, by their name there.
    """

    repository: str
    ref: str
    sha: str
    run_id: str
    run_attempt: str
    actor: str
    jti: str
    expires_at: int

    def __str__(self) -> str:
        end = f" run {self.run_id} ({self.actor})"
        return self.repository[: LONGEST_NAME - len(end)] + end


def looks_like_one(text: str) -> bool:
    """Whether it has the form of a signed token at all, so that words about it can help."""
    return len(text) <= LONGEST and text.count(".") == 2 and text.isascii()


def read(
    text: str, rules: Sequence[Pipeline], keys: Keys, now: Callable[[], float] = time.time
) -> tuple[Pipeline, Run]:
    """The rule that fits and the run. rules: those that are used, in their order.

    Raises NotBelieved, in words that repeat nothing of the token but what it was compared by, and CannotTell.
    """
    header, claimed = _unverified(text)
    algorithm, kid = str(header.get("alg")), header.get("kid")
    if algorithm not in ALGORITHMS or not isinstance(kid, str):
        raise NotBelieved(f"The token has to be signed by {' or '.join(ALGORITHMS)} and to name its key.")
    known = [rule for rule in rules if rule.issuer == claimed.get("iss") and _is_for(claimed, rule.audience)]
    if not known:
        raise NotBelieved("No pipeline is declared with the issuer and the audience of this token.")
    known = [rule for rule in known if rule.keys_url == known[0].keys_url]
    key = keys.find(known[0].keys_url, kid)
    if key is None or not isinstance(key, ALGORITHMS[algorithm]):
        raise NotBelieved("The issuer has no key of the name and kind that this token was signed with.")
    try:
        claims = jwt.decode(text, key, algorithms=[algorithm]).claims
    except (JoseError, ValueError, TypeError) as error:
        raise NotBelieved("The signature of the token is not its issuer's.") from error
    _check_times(claims, int(now()))
    known = [rule for rule in known if rule.issuer == claims.get("iss") and _is_for(claims, rule.audience)]
    run = _run(claims)
    misfits = [(rule, _misfit(rule, claims)) for rule in known]
    for rule, words in misfits:
        if not words:
            return rule, run
    raise NotBelieved(f"No pipeline fits this run: {'; '.join(f'{rule.slug} {words}' for rule, words in misfits)}.")


def _unverified(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        header, claims = (_json(part) for part in text.split(".")[:2])
    except (ValueError, RecursionError) as error:
        raise NotBelieved("This is no token of an issuer: it cannot be read.") from error
    return header, claims


def _json(part: str) -> dict[str, Any]:
    try:
        content = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


def _is_for(claims: Mapping[str, Any], audience: str) -> bool:
    told = claims.get("aud")
    return told == audience or (isinstance(told, list) and audience in told)


def _check_times(claims: Mapping[str, Any], now: int) -> None:
    times = {name: claims.get(name) for name in ("exp", "iat", "nbf")}
    for name, value in times.items():
        if (name != "nbf" or name in claims) and (isinstance(value, bool) or not isinstance(value, int)):
            raise NotBelieved(f"The token does not say {name} as a number of seconds.")
    expires, issued, not_before = times["exp"], times["iat"], times["nbf"] or times["iat"]
    assert isinstance(expires, int) and isinstance(issued, int) and isinstance(not_before, int)
    if expires <= now - LEEWAY_SECONDS:
        raise NotBelieved("The token has expired. Ask its issuer for a fresh one for each call.")
    if max(issued, not_before) > now + LEEWAY_SECONDS:
        raise NotBelieved("The token is not valid yet; the clocks differ by more than is borne.")
    if expires - issued > LONGEST_LIFE:
        raise NotBelieved("The token is valid for more than a day, which is too long to be one of a run.")


def _run(claims: Mapping[str, Any]) -> Run:
    def told(name: str, *, needed: bool = False) -> str:
        value = claims.get(name, "")
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or len(text) > LONGEST_CLAIM or "\0" in text or (needed and not text):
            raise NotBelieved(f"The token does not say {name} as a run's token does.")
        return text

    return Run(
        repository=told("repository", needed=True),
        ref=told("ref"),
        sha=told("sha")[:80],
        run_id=told("run_id", needed=True)[:40],
        run_attempt=told("run_attempt")[:20],
        actor=told("actor")[:100] or "nobody named",
        jti=told("jti", needed=True),
        expires_at=claims["exp"],
    )


def _misfit(rule: Pipeline, claims: Mapping[str, Any]) -> str:
    """Why the rule does not fit, in words; "" when it does. GitHub's names are the same in whatever case."""
    repository, ref, event = (str(claims.get(name, "")) for name in ("repository", "ref", "event_name"))
    if repository.lower() != rule.repository.lower():
        return "is for another repository"
    if rule.repository_id and str(claims.get("repository_id", "")) != rule.repository_id:
        return "is for the repository of another number"
    if event not in rule.events:
        return f"takes no runs set off by {event or 'nothing named'}"
    if not any(_fits(ref, pattern) for pattern in rule.refs):
        return f"takes no runs of {ref or 'no reference'}"
    if rule.job_environments and claims.get("environment") not in rule.job_environments:
        return f"takes only jobs in the environment {' or '.join(rule.job_environments)}"
    return ""


def _fits(ref: str, pattern: str) -> bool:
    return ref.startswith(pattern[:-1]) if pattern.endswith("*") else ref == pattern
