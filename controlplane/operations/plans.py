"""Plans: the frozen list of steps that people approve and workers run.

Pure data. The same function of an app builds the plan for the dry run, for the approval and, again, at the
start: equal inputs give an equal digest, so a difference is proof that something moved.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

Arguments = dict[str, Any]
# What a row of a plan's changes says to in the end, when nothing has to be done.
ALREADY = "already on it"


@dataclass(frozen=True)
class Retry:
    """How often a step that failed for a passing reason is tried again.

    attempts: tries in all, at least 1. wait: seconds before the second try, doubled each time, at most 60.
    """

    attempts: int = 1
    wait: float = 1.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the given failed attempt (1 is the first)."""
        return min(60.0, self.wait * 2.0 ** (attempt - 1))


@dataclass(frozen=True)
class StepSpec:
    """One step of a plan.

    key: unique in the plan. function: name under which an app registered what the step does.
    group: heading it stands under ("production-1"). timeout: seconds for one attempt, waiting included.
    on_failure: keys of the recovery steps to run, in order, when this step fails for good.
    safe_point: the operation may be stopped before this step.
    interruptible: it may be stopped in the middle of this step too; then its `on_failure` puts back what it did.
    asks: when it fails for good a person is asked what to do, instead of ending the operation: half of a failover is
    worse than one that waits for somebody.
    risk: what is risked when a person goes on without it, in words; they then have to say that they accept it.
    """

    key: str
    title: str
    function: str
    arguments: Arguments = field(default_factory=dict)
    group: str = ""
    timeout: float = 60.0
    retry: Retry = Retry()
    on_failure: tuple[str, ...] = ()
    safe_point: bool = False
    interruptible: bool = False
    asks: bool = False
    risk: str = ""


@dataclass(frozen=True)
class Plan:
    """What will change (from, to), the steps that do it, and the steps that put it back.

    summary: one sentence. changes: rows {"what", "from", "to"} shown to the approver.
    """

    summary: str
    steps: tuple[StepSpec, ...]
    recovery: tuple[StepSpec, ...] = ()
    changes: tuple[dict[str, str], ...] = ()

    def __post_init__(self) -> None:
        keys = [step.key for step in self.all_steps()]
        if len(keys) != len(set(keys)):
            raise ValueError(f"step keys must be unique in a plan: {sorted(keys)}")
        known = {step.key for step in self.recovery}
        for step in self.steps:
            if missing := set(step.on_failure) - known:
                raise ValueError(f"step {step.key}: no such recovery step: {', '.join(sorted(missing))}")

    def all_steps(self) -> Iterator[StepSpec]:
        """The steps, then the recovery steps."""
        yield from self.steps
        yield from self.recovery

    def as_json(self) -> dict[str, Any]:
        """Plain data: what the database keeps and the digest covers."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form, as hex. An approval signs this."""
        return digest_of(self.as_json())


def digest_of(plan: dict[str, Any]) -> str:
    """SHA-256 of a plan's canonical JSON (sorted keys, no spaces, UTF-8), as hex."""
    canonical = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
