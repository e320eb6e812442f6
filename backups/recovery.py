"""Bringing a cluster back as it was at a moment, on a scratch server.

1. The chain of base backups is unpacked and combined; its own settings are set aside, so that nothing of the source
   (its archive, its addresses, libraries that are not here, who may log in) is carried over.
2. The server replays WAL until the moment, then opens. Nothing of a transaction that was committed later is there.
3. PostgreSQL calls a moment reached only when it sees a later commit. Where none came, because the database was
   quiet, and the archive is known to hold everything up to the moment, the end of the WAL is that moment.
"""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backups.base_files import unpack
from backups.engines.base import Hand
from backups.manifest import time_of
from backups.models import Policy, WalStream
from backups.scratch import Scratch, server_program
from backups.sealing import Sealer
from backups.storage.base import Store
from backups.wal_segments import Segment, last_segment
from backups.wal_supply import Supply
from backups.window import Base, Range, continued, ranges_of
from controlplane.operations.errors import StepError

SERVE_SECONDS = 0.02
ASK_SECONDS = 0.2
NOT_YET = re.compile(
    r"starting up|not yet accepting|in recovery mode|shutting down|No such file|Connection refused|not accepting"
)
ENDED_BEFORE = "recovery ended before configured recovery target was reached"
EMPTIED = ("postgresql.conf", "postgresql.auto.conf", "pg_ident.conf")
REMOVED = ("standby.signal", "recovery.signal", "postmaster.pid", "postmaster.opts")
# What recovery needs at least as much of as the source had, as pg_controldata names it.
TAKEN_OVER = {
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


def restore_to(  # noqa: PLR0917
    scratch: Scratch,
    policy: Policy,
    backup_chain: Sequence[Mapping[str, Any]],
    moment: datetime | None,
    store: Store,
    sealer: Sealer,
    hand: Hand,
) -> None:
    """Bring the cluster back on a scratch that is open, and let it accept connections.

    backup_chain: manifests, the whole one first. moment: None for the end of the last of them.
    Raises StepError: a damaged or missing object, a moment that cannot be reached.
    """
    base = backup_chain[-1]
    promised = None if moment is None else _promised(policy, base, moment)
    supply = Supply(scratch, store, sealer, prefix=policy.prefix, manifest=base, empty=moment is None)
    scratch.superuser = str(base["facts"]["superuser"])
    unpack(backup_chain, scratch, store, sealer, hand)
    _settle(scratch, str(base["facts"]["server_version"]))
    target = {"recovery_target": "immediate"} if moment is None else {"recovery_target_time": moment.isoformat()}
    if not _recover(scratch, supply, target, hand):
        if moment is None or promised is None or supply.furthest < promised.last:
            raise StepError(_unreached(scratch, supply, moment), permanent=True)
        hand.log(f"Nothing was committed after {moment:%Y-%m-%d %H:%M:%S} UTC: the end of the WAL is that moment.")
        if not _recover(scratch, supply, {}, hand) or supply.furthest < promised.last:
            raise StepError(_unreached(scratch, supply, moment), permanent=True)
    hand.log(f"Recovered with {supply.served} WAL segments. {_last_transaction(scratch)}")


def _promised(policy: Policy, base: Mapping[str, Any], moment: datetime) -> Range | None:
    """The range of WAL that is known to hold everything up to the moment; None where nothing is known."""
    if moment < (end := time_of(base, "as_of")):
        raise StepError(
            f"{moment:%Y-%m-%d %H:%M:%S} UTC is before the end of the backup ({end:%Y-%m-%d %H:%M:%S} UTC). "
            "Restore from an earlier one.", permanent=True,
        )  # fmt: skip
    facts = base["facts"]
    number = last_segment(str(facts["wal_end"]), int(facts["segment_bytes"]))
    ranges = continued(Base(0, end, int(facts["timeline"]), number), ranges_of([policy.pk]).get(policy.pk, []))
    if not ranges and WalStream.objects.filter(policy=policy).exclude(archived_lsn="").exists():
        raise StepError("The WAL that follows on the backup is not in the storage.", permanent=True)
    return next((one for one in ranges if one.until >= moment), None)


def _settle(scratch: Scratch, version: str) -> None:
    """Set the source's own settings aside, and ask for a recovery."""
    data = scratch.data
    theirs = (data / "PG_VERSION").read_text().strip()
    said = subprocess.run([server_program(scratch.place, "postgres"), "--version"], capture_output=True, text=True,
                          check=True).stdout  # fmt: skip
    ours = re.split(r"\D", said.split()[2])[0]
    if theirs != ours:
        raise StepError(
            f"The backup is of PostgreSQL {version}, and the programs here are of {ours}. "
            "Set POSTGRES_PROGRAMS to the folder of those of the same major version.", permanent=True,
        )  # fmt: skip
    content = dict.fromkeys(EMPTIED, "") | {"pg_hba.conf": "local all all trust\n", "recovery.signal": ""}
    for name in (*REMOVED, *content):
        (data / name).unlink(missing_ok=True)
    for name, text in content.items():
        (data / name).write_text(text)
        scratch.place.own(data / name)


def _settings(scratch: Scratch) -> dict[str, str]:
    """Limits as the source had them; else its WAL may not be replayed here."""
    program = server_program(scratch.place, "pg_controldata")
    said = subprocess.run([program, "-D", str(scratch.data)], capture_output=True, text=True, check=True,
                          env={"LC_ALL": "C"}).stdout  # fmt: skip
    values = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return {name: values[title].strip() for title, name in TAKEN_OVER.items() if title in values}


def _recover(scratch: Scratch, supply: Supply, target: Mapping[str, str], hand: Hand) -> bool:
    """Start the server and wait until it is open; False when the WAL ended before the target was reached."""
    supply.begin()
    scratch.launch(
        restore_command=supply.command,
        recovery_target_action="promote",
        hot_standby="off",  # so that no limit of the source but those below has to be met
        wal_level="replica",
        archive_mode="off",
        **_settings(scratch),
        **target,
    )
    asked, told = time.monotonic(), supply.served
    while True:
        busy = supply.serve()
        if supply.served > told:
            told = supply.served
            hand.progress(told, max(told, supply.total), "segments")
        if scratch.ended():
            if ENDED_BEFORE in scratch.last_words():
                return False
            raise StepError(f"The recovery did not succeed. {scratch.last_words()}", permanent=True)
        if time.monotonic() - asked > ASK_SECONDS:
            asked = time.monotonic()
            refusal = scratch.refusal()
            if not refusal:
                return True
            if not NOT_YET.search(refusal):
                raise StepError(f"The recovered server lets nobody in: {refusal}", permanent=True)
        if busy:
            hand.check()
        else:
            hand.wait(SERVE_SECONDS)


def _unreached(scratch: Scratch, supply: Supply, moment: datetime | None) -> str:
    wanted = "the end of the backup" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    if not supply.missing:
        return f"The WAL in the storage ends before {wanted}. {_last_transaction(scratch)} Choose an earlier moment."
    segment = Segment.named(supply.missing, supply.segment_bytes)
    later = supply.last(segment.timeline) > segment.number
    why = "is missing in the storage, though later ones are there" if later else "is not in the storage"
    return (
        f"{wanted} cannot be reached: the WAL segment {supply.missing} {why}. {_last_transaction(scratch)} "
        "Choose an earlier moment."
    )


def _last_transaction(scratch: Scratch) -> str:
    found = re.findall(r"last completed transaction was at log time (\S+ \S+)",
                       scratch.log.read_text(errors="replace"))  # fmt: skip
    return f"The last transaction in it was committed at {found[-1]}." if found else "It holds no later transaction."
