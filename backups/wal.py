"""The continuous WAL archives, as they are seen from outside of the receiver: lag, silence, gaps, and their slots."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.models import BackupAlert, Policy, WalStream
from backups.programs import Server
from backups.window import Range, bases_of, gaps, ranges_of
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError

# Older than this, what the receiver last saw, or what is in the storage, is a trouble to be told.
SILENT_AFTER = timedelta(seconds=60)
LONGEST_SLOT = 63


@dataclass(frozen=True)
class StreamState:
    """How one archive does.

    lag_bytes: of the log that is not in the storage yet. lag: since when, None while nothing is. silent: nobody has
    seen the server for a minute. problem: why, in words. gaps: since the oldest base that is kept.
    """

    policy_id: int
    seen_at: datetime | None
    lag_bytes: int
    lag: timedelta | None
    silent: bool
    problem: str
    gaps: tuple[tuple[datetime, datetime], ...]
    newest_base: datetime | None


def slot_of(policy: Policy) -> str:
    """The name of its replication slot: of the settings, or made of its own name."""
    made = re.sub(r"[^a-z0-9_]", "_", f"controlplane_{policy.environment.slug}_{policy.slug}".lower())
    return str(policy.settings.get("slot") or made)[:LONGEST_SLOT]


def observe_streams(policies: Iterable[Policy] | None = None) -> list[StreamState]:
    """How the archives do, of these policies or of all that have one."""
    rows = WalStream.objects.select_related("policy__environment")
    if policies is not None:
        rows = rows.filter(policy__in=[policy.pk for policy in policies])
    now, streams = database_time(), list(rows)
    numbers = [stream.policy_id for stream in streams]
    bases, ranges = bases_of(numbers), ranges_of(numbers)
    return [
        _state(one, now, [base.at for base in bases.get(one.policy_id, [])], ranges.get(one.policy_id, []))
        for one in streams
    ]


def _state(stream: WalStream, now: datetime, bases: list[datetime], ranges: list[Range]) -> StreamState:
    oldest = min(bases, default=now)
    return StreamState(
        policy_id=stream.policy_id,
        seen_at=stream.seen_at,
        lag_bytes=stream.lag_bytes,
        lag=None if stream.archived_until is None else max(now - stream.archived_until, timedelta()),
        silent=stream.seen_at is None or now - stream.seen_at > SILENT_AFTER,
        problem=stream.problem,
        gaps=tuple(gap for gap in gaps(ranges) if gap[1] >= oldest),
        newest_base=max(bases, default=None),
    )


def wal_problems(policies: Iterable[Policy]) -> Mapping[int, Mapping[str, str]]:
    """What is wrong with the archives of these policies, in words, by policy and kind of alert."""
    policies = list(policies)
    states = {state.policy_id: state for state in observe_streams(policies)}
    now = database_time()
    return {policy.pk: _wrong_with(policy, states.get(policy.pk), now) for policy in policies}


def _wrong_with(policy: Policy, state: StreamState | None, now: datetime) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if words := _lag(policy, state, now):
        wrong[BackupAlert.Kind.WAL_LAG] = words
    if state is not None and state.gaps and (state.newest_base is None or state.newest_base < state.gaps[-1][1]):
        since, until = state.gaps[-1]
        wrong[BackupAlert.Kind.WAL_GAP] = (
            f"WAL is missing from {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} UTC: nothing since then can "
            "be restored before there is a new base backup. Make one now"
        )
    return wrong


def _lag(policy: Policy, state: StreamState | None, now: datetime) -> str:
    if state is None or state.seen_at is None:
        if now - policy.clock.since <= SILENT_AFTER:
            return ""
        return f"no WAL was ever received{_because(state)}. Is `manage.py wal_receiver` running?"
    if state.silent:
        return f"no WAL is received since {state.seen_at:%Y-%m-%d %H:%M:%S} UTC{_because(state)}. " \
            "Is `manage.py wal_receiver` running?"  # fmt: skip
    if state.lag is None or state.lag > SILENT_AFTER:
        behind = "has not begun" if state.lag is None else f"is {state.lag.total_seconds():.0f} s behind"
        return f"the WAL in the storage {behind}, by {state.lag_bytes} bytes{_because(state)}"
    return ""


def _because(state: StreamState | None) -> str:
    return f": {state.problem.rstrip('.')}" if state is not None and state.problem else ""


def drop_slot(policy: Policy) -> bool:
    """Remove its replication slot from the server, which would keep WAL for ever; whether there was one.

    Raises StepError when the server cannot be reached, or the slot is in use.
    """
    slot = slot_of(policy)
    with Server.at(str(policy.settings["database"])).connect(autocommit=True) as connection:
        row = connection.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchone()
        if row is None:
            return False
        if row[0]:
            raise StepError(f"The replication slot {slot} is in use. Stop what uses it, then try again.")
        connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
    return True
