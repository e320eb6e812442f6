"""recover.py: carries a recovery plan out when the control plane is gone.

    python3 recover.py --verify                 is this kit what the control plane signed?
    python3 recover.py --dry-run                look at every step, change nothing
    python3 recover.py --name "Alice Miller"    carry it out; started again, it goes on where it was

It needs Python 3.11 and boto3. RUNBOOK.md beside it says the same by hand.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from backups.disaster.kit.script.applications import app_proving, app_starting, app_stopping, app_waiting
from backups.disaster.kit.script.deciding import ask_on, assess, choose, chosen_candidate, decide
from backups.disaster.kit.script.errors import Broken, Doubt, Ended, Passing, Wrong
from backups.disaster.kit.script.flag import flag_switching
from backups.disaster.kit.script.health import asking
from backups.disaster.kit.script.journal import Entry, Journal, entries_of
from backups.disaster.kit.script.manifest import MANIFEST, PLAN, SIGNATURE, check_files, files_in
from backups.disaster.kit.script.rds import (
    database_beginning,
    database_fencing,
    database_opening,
    database_proving,
)
from backups.disaster.kit.script.route53 import route53_switching
from backups.disaster.kit.script.running import Look, Run, State, Step, carry_out, rehearse
from backups.disaster.kit.script.talking import Person, printable, say

PUBLIC_KEY = ""  # the kit's own copy of this file has it
FORMAT = 1
SUCCEEDED, STOPPED, USAGE = 0, 3, 2
FIRST, OUTSIDE = "start", "outside"
LATE_SECONDS = 30.0


def steps_of(run: Run) -> list[Step]:
    """The plan, in its order. What takes long is begun before it is waited for; nothing is opened before the fence."""
    plan = run.plan
    database, traffic = plan["database"], plan["traffic"]
    rds_there = database["kind"] == "rds"
    services = [one for one in plan["applications"] if one["from"]["cluster"] and one["to"]["cluster"]]
    others = len(services) < len(plan["applications"])
    proofs = [
        *_each(services, lambda one: app_proving(one, run.fence_seconds)),
        *(database_proving(database, run.fence_seconds) if rds_there else []),
    ]
    begun = database_beginning(database, chosen_candidate(run)) if rds_there else []
    return [
        *begun,
        *_each(services, lambda one: app_stopping(one, run.fence_seconds)),
        *(database_fencing(database, run.fence_seconds) if rds_there else []),
        *proofs,
        *([] if rds_there and not others else _by_hand("fence")),
        *(database_opening(database, chosen_candidate(run)) if rds_there else _by_hand("database")),
        *(_by_hand("applications") if others else []),
        *_each(services, app_starting),
        *_each(services, app_waiting),
        *(asking(f"verify/{number}", f"Ask {url}", url) for number, url in enumerate(plan["to"]["health"], 1)),
        *_traffic(traffic),
        *_outside(plan),
        _late_fence(run, proofs),
    ]


def _late_fence(run: Run, proofs: list[Step]) -> Step:
    """Whoever took the risk: the old side may be there again by now, and is fenced as soon as it is."""

    def open_proofs() -> list[Step]:
        risky = {one["step"] for one in run.journal.entries if one["kind"] == "risk"}
        proven = {one["step"] for one in run.journal.entries if one["kind"] == "proven"}
        return [step for step in proofs if step.key in risky - proven]

    def look(run: Run) -> Look:
        for step in open_proofs():
            found = step.look(run)
            if found.state is not State.DONE:
                return found
            run.journal.add("proven", step.key, found.words)
        return Look(State.DONE, "the old side is proven to be fenced")

    def act(run: Run) -> None:
        for step in open_proofs():
            if step.look(run).state is State.OPEN:
                step.act(run)

    seconds = min(run.fence_seconds, LATE_SECONDS)
    return Step("fence/again", "Look at the old side once more", look, act, seconds, lenient=True)


def _each(services: list[dict[str, Any]], steps: Callable[[dict[str, Any]], list[Step]]) -> list[Step]:
    return [step for one in services for step in steps(one)]


def _traffic(traffic: dict[str, Any]) -> list[Step]:
    switches = {"route53": route53_switching, "flag": flag_switching}
    switch = switches.get(traffic["kind"])
    return switch(traffic) if switch else _by_hand("traffic")


def _outside(plan: dict[str, Any]) -> list[Step]:
    url = plan["outside"]
    return [asking(OUTSIDE, f"Ask {url} from here, as people do", url)] if url else []


def _by_hand(part: str) -> list[Step]:
    def look(run: Run) -> Look:
        raise Doubt(f'This script cannot do this part ({part}). RUNBOOK.md, "{part.title()}", says how by hand.')

    return [Step(f"{part}/by-hand", f"{part.title()}: by hand", look)]


def _open_journal(run: Run, files: dict[str, bytes]) -> None:
    """Begin the journal, or take it up. Raises Broken when it is another kit's."""
    manifest = files[MANIFEST].decode()
    first = run.journal.entries[0] if run.journal.entries else None
    if first is None:
        plan = run.plan
        run.journal.add(
            FIRST, "", f"{plan['from']['environment']} fails over to {plan['to']['environment']}", by=run.person.name,
            plan=plan["plan"]["slug"], source=plan["from"]["environment"], target=plan["to"]["environment"],
            content_digest=plan["content_digest"], manifest=manifest, signature=files[SIGNATURE].decode().strip(),
        )  # fmt: skip
    elif first["data"].get("manifest") != manifest:
        raise Broken(
            "This journal was begun with another kit. Go on with that one, or name another file with --journal for a "
            "new run."
        )
    else:
        run.journal.add("resume", "", f"{run.person.name} goes on", by=run.person.name)


def _write_end(run: Run) -> None:
    """How it ended, and what was reached, against the promises."""
    entries = run.journal.entries
    decided = next(one for one in entries if one["kind"] == "decided")
    began = datetime.fromisoformat(decided["at"])
    served = datetime.fromisoformat((run.journal.last("done", OUTSIDE) or entries[-1])["at"])
    reached: Entry = {"rto_seconds": (served - began).total_seconds(), "unproven": run.unproven()}
    if as_of := chosen_candidate(run).get("as_of"):
        reached["rpo_seconds"] = max(0.0, (began - datetime.fromisoformat(as_of)).total_seconds())
    words = f"{run.plan['to']['environment']} serves people"
    run.journal.add("end", "", words, outcome="succeeded", **reached)
    say()
    say(f"{words}, {reached['rto_seconds'] / 60:.0f} minutes after the decision.")
    if reached["unproven"]:
        say(f"NOT PROVEN: {run.plan['from']['environment']} may come back and take writes. Keep it fenced by hand.")
    for number, check in enumerate(run.plan["checks"]):
        say(f"{'To check by hand: ' if not number else ' ' * 18}{check.get('name', '')}: {check.get('sql', '')}")
    if run.plan["tell"]:
        say(f"Now tell: {', '.join(run.plan['tell'])}.")
    say("Keep journal.jsonl: `manage.py recovery_kit import` brings it into the control plane's history.")


def recover(run: Run, files: dict[str, bytes]) -> int:
    """Decide, carry out, end."""
    if run.journal.last("end"):
        say("This run has ended well already. For another one, name another file with --journal.")
        return SUCCEEDED
    _open_journal(run, files)
    decide(run)
    while True:
        try:
            choose(run)
            break
        except (Passing, Wrong) as trouble:
            ask_on(run, trouble)
    carry_out(run, steps_of(run))
    _write_end(run)
    return SUCCEEDED


def rehearsal(arguments: argparse.Namespace, plan: dict[str, Any]) -> int:
    """Look at everything, with a copy of the journal that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "journal.jsonl"
        if arguments.journal.exists():
            copy.write_bytes(arguments.journal.read_bytes())
        run = Run(plan, Journal(copy), Person(arguments.name or "rehearsal", accept=True), arguments.seconds,
                  arguments.fence_seconds)  # fmt: skip
        assess(run)
        try:
            if not run.journal.entries:
                run.journal.add(FIRST, "", "rehearsal")
            choose(run)
        except (Passing, Wrong) as trouble:
            say(f"    ! {trouble}")
        rehearse(run, steps_of(run))
    say("Nothing was changed.")
    return SUCCEEDED


def read_kit(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The kit's files, checked, and its plan. Raises Broken."""
    files = files_in(folder)
    check_files(files, PUBLIC_KEY)
    plan: dict[str, Any] = json.loads(files[PLAN])
    if plan.get("format") != FORMAT:
        raise Broken(f"{PLAN} is of format {plan.get('format')}, and this script knows {FORMAT}.")
    return files, plan


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recover.py", description=__doc__.partition("\n\n")[0] if __doc__ else "")
    here = Path(sys.argv[0]).resolve().parent
    parser.add_argument("--verify", action="store_true", help="check the kit's files and signature, and end")
    parser.add_argument("--check-journal", action="store_true", help="check the chain of the journal, and end")
    parser.add_argument("--dry-run", action="store_true", help="look at every step, change nothing")
    parser.add_argument("--name", default="", help="who you are; it goes into the journal")
    parser.add_argument("--newest", action="store_true", help="restore from the newest there is, without asking")
    parser.add_argument("--journal", type=Path, default=here / "journal.jsonl", help="another place for the journal")
    parser.add_argument("--seconds", type=float, default=10.0, help="between two looks")
    parser.add_argument("--fence-seconds", type=float, default=120.0, help="patience with the old side")
    parser.add_argument("--kit", type=Path, default=here, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """The command. Returns its exit code: 0 it is done, 3 it stopped and can go on, 2 it cannot begin."""
    arguments = _arguments(given)
    try:
        files, plan = read_kit(arguments.kit)
        if arguments.verify:
            say(f"The kit is whole, and signed with the key {PUBLIC_KEY}. Compare it with the one that was printed.")
            return SUCCEEDED
        if arguments.check_journal:
            say(f"The journal's chain holds: {len(entries_of(arguments.journal.read_bytes()))} entries.")
            return SUCCEEDED
        if arguments.dry_run:
            return rehearsal(arguments, plan)
        name = printable(arguments.name) or Person("").ask("Who are you? Your name goes into the journal.")
        person = Person(name or "somebody without a name", accept=arguments.newest)
        run = Run(plan, Journal(arguments.journal), person, arguments.seconds, arguments.fence_seconds)
        return recover(run, files)
    except Broken as error:
        say(f"! {error}")
        return USAGE
    except Ended as error:
        say(str(error))
        return STOPPED
    except KeyboardInterrupt:
        say("Stopped. Start it again and it goes on from here.")
        return STOPPED
    except OSError as error:
        say(f"! {error}")
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
