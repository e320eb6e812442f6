"""A standby: it replays what the old side had, is promoted, and is made to follow again after people came home."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings

from backups.disaster.databases.postgres_server import asked, following
from backups.programs import Server
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.models import Step
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed, pending
from controlplane.operations.states import StepState

PROMOTE_SECONDS = 60
POLL_SECONDS = 0.2
FENCED = "database/fenced"  # the key of the step that noted the old side's last position
REACHED = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn, pg_last_wal_replay_lsn()::text"
RECEIVED = "SELECT coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) <= pg_last_wal_replay_lsn()"
# Somebody who died in the middle of a sentence leaves the beginning of a record, which is never replayed: then the
# server waits for the rest of it, and nobody sends it.
EXHAUSTED = """
SELECT pg_last_wal_replay_lsn()::text || ' ' || coalesce(pg_last_wal_receive_lsn()::text, ''),
       NOT EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming')
       AND EXISTS (SELECT 1 FROM pg_stat_activity WHERE backend_type = 'startup'
                   AND wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval'))
"""
EXHAUSTED_SECONDS = 2.0
SILENT_SECONDS = 30.0
MISSING = "SELECT pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn())::bigint"
BROUGHT = "database/bring"  # the key of the step that brings everything home


def _caught_up(context: StepContext, *, database: str, environment: str, source: str) -> Verdict:
    """Up to the position that the proof of the fence noted; without one, up to all that was ever received."""
    server = Server.at(database)
    if not asked(server, "SELECT pg_is_in_recovery()")[0]:
        return passed("it is promoted already")
    position = _noted(context)
    if not position:
        if asked(server, RECEIVED)[0] or _is_exhausted(context, server):
            context.log(f"{source} could not be asked how far it had come; all that was received is replayed",
                        level="warning")  # fmt: skip
            return passed("everything that was received is replayed")
        return pending("not everything that was received is replayed")
    reached, at = asked(server, REACHED, position)
    if reached:
        context.log(f"replayed to {at}; {source} had come to {position}: nothing is missing")
        return passed("nothing is missing")
    _ask_about_silence(context, server, source, position)
    return pending(f"replayed to {at} of {position}")


def _is_exhausted(context: StepContext, server: Server) -> bool:
    """Whether it waits for more, has for a while, and nobody sends: then what it received and did not replay is half
    a record, of which nothing was ever acknowledged."""
    at, waits = asked(server, EXHAUSTED)
    (now,) = asked(server, "SELECT extract(epoch FROM clock_timestamp())::float8")
    if not waits or context.checkpoint.get("waits_at") != at:
        context.save_checkpoint(waits_at=at if waits else "", waits_since=now)
        return False
    return bool(now - context.checkpoint["waits_since"] >= EXHAUSTED_SECONDS)


def _ask_about_silence(context: StepContext, server: Server, source: str, position: str) -> None:
    """What nobody sends any more never arrives; whether to go on without it is for a person to say."""
    stand = following(server)
    if stand is None or stand.streams:
        if context.checkpoint.get("silent_since"):
            context.save_checkpoint(silent_since=None)
        return
    (now,) = asked(server, "SELECT extract(epoch FROM clock_timestamp())::float8")
    since = context.checkpoint.get("silent_since")
    if since is None:
        context.save_checkpoint(silent_since=now)
        since = now
    if now - since >= SILENT_SECONDS:
        (missing,) = asked(server, MISSING, position)
        raise Unknown(
            f"{server} hears nothing from {source} any more and lacks the last {missing:,} bytes of what was committed "
            f"there. Bring {source} back and try again, or go on without them."
        )


def _noted(context: StepContext) -> str:
    step = Step.objects.filter(operation=context.operation_id, key=FENCED).first()
    return str(step.checkpoint.get("position", "")) if step else ""


def _nothing(context: StepContext, **arguments: Any) -> None:
    """It is only waited for."""


def _is_promoted(context: StepContext, *, database: str, environment: str) -> Seen:
    return Seen.NOT_DONE if asked(Server.at(database), "SELECT pg_is_in_recovery()")[0] else Seen.DONE


def _promote(context: StepContext, *, database: str, environment: str) -> None:
    server = Server.at(database)
    stand = following(server)
    if stand is not None:
        context.save_checkpoint(as_of=stand.as_of.isoformat(), bytes_behind=stand.bytes)
    context.check()
    # Nobody who was asked to make it anew once may do so when people are here.
    request_file(environment).unlink(missing_ok=True)
    if not asked(server, "SELECT pg_promote(true, %s)", PROMOTE_SECONDS)[0]:
        raise StepError(f"{server} was not promoted within {PROMOTE_SECONDS} s.")
    context.log(f"{server} is a primary now")


# --- following again ----------------------------------------------------------------------------------


def must_be_brought(context: StepContext) -> None:
    """A way home brings everything, by us or, as a person says, by hand. Raises StepError where that was left out."""
    step = Step.objects.filter(operation=context.operation_id, key=BROUGHT).first()
    if step is not None and step.state != StepState.SUCCEEDED:
        words = "The data were not brought home: what is there is not opened, and what they are in not thrown away."
        raise StepError(words, permanent=True)


def request_file(environment: str) -> Path:
    """Where whoever runs the embedded servers reads that the environment's standby is to be made anew."""
    return Path(settings.DATA_DIR) / f"rebuild-{environment}.json"


def _follows(context: StepContext, *, database: str, environment: str, rebuild: str) -> Seen:
    return Seen.DONE if _streams(Server.at(database)) else Seen.NOT_DONE


def _streams(server: Server) -> bool:
    try:
        stand = following(server)
    except StepError:
        return False
    return stand is not None and stand.streams


def _rebuild(context: StepContext, *, database: str, environment: str, rebuild: str) -> None:
    """Ask for it. What it has is on the other side by now, row by row; nothing is thrown away before that."""
    must_be_brought(context)
    context.check()
    path = request_file(environment)
    draft = path.with_suffix(f".{context.operation_id}")
    draft.write_text(json.dumps({"operation": context.operation_id}))
    draft.rename(path)
    context.log(f"the standby in {environment} is being made anew")


def _is_following(context: StepContext, *, database: str, environment: str, rebuild: str) -> Verdict:
    return passed("it follows") if _streams(Server.at(database)) else pending("it does not follow yet")


STEPS = {
    "postgres.catch_up": StepFunction(act=_nothing, verify=_caught_up, poll=POLL_SECONDS),
    "postgres.promote": StepFunction(observe=_is_promoted, act=_promote),
    "postgres.follow": StepFunction(observe=_follows, act=_rebuild, verify=_is_following, poll=0.5),
}
