"""Before anything is changed: look at both sides, hear what people know, choose what to restore from.

A failed probe alone never fails over: a named person says in words why. What was decided is not asked again.
"""

from datetime import UTC, datetime
from typing import Any

from backups.disaster.kit.script.errors import Ended, Passing, Wrong
from backups.disaster.kit.script.health import heard
from backups.disaster.kit.script.rds import database_candidates
from backups.disaster.kit.script.running import Run
from backups.disaster.kit.script.talking import say

PROBES = 3
DECIDED, CHOSEN = "decide", "choose"


def assess(run: Run) -> list[dict[str, Any]]:
    """What several probes of both sides hear, said as it comes."""
    found = []
    for side in ("from", "to"):
        about = run.plan[side]
        for url in about["health"]:
            answers = [heard(url) for _ in range(PROBES)]
            well = sum(good for good, _ in answers)
            found.append({"side": side, "url": url, "well": well, "of": PROBES, "words": answers[-1][1]})
            say(f"    {about['environment']}: {url}: {well} of {PROBES} well; {answers[-1][1]}")
    return found


def decide(run: Run) -> None:
    """Whether to fail over, and why. Raises Ended."""
    if run.journal.last("decided", DECIDED):
        return
    source, target = run.plan["from"]["environment"], run.plan["to"]["environment"]
    say(f"Looking at {source} and {target}")
    probes = assess(run)
    if any(one["side"] == "from" and one["well"] for one in probes):
        say(f"    ! {source} answers. To fail over now takes it from the people it serves.")
    answer = run.person.ask(
        f"This takes {source} out of service and moves its people to {target}. Type {target} to go on, or anything "
        "else to leave everything as it is."
    )
    if answer != target:
        raise Ended("Nothing was changed.")
    words = run.person.in_words(f"What do you know of {source}, and from whom? (Probes alone are no reason.)")
    run.journal.add("decided", DECIDED, words, by=run.person.name, probes=probes)


def choose(run: Run) -> None:
    """What to restore from: the newest there is, if the person agrees. Raises Ended, Passing, Wrong."""
    if run.journal.last("decided", CHOSEN) or run.plan["database"]["kind"] != "rds":
        return
    say("Looking for what the database can come back from")
    found = database_candidates(run.plan["database"])
    if not found:
        raise Wrong(
            "There is neither a replica nor a snapshot of the database in the other region. RUNBOOK.md says how to "
            "copy one by hand."
        )
    for number, one in enumerate(found, 1):
        say(f"    {number}. {one['title']}: {_what_is_lost(one)}")
    chosen = found[0]
    if not run.person.accept:
        numbers = [str(number) for number in range(1, len(found) + 1)]
        answer = run.person.choose("Which one? 1 is the newest.", *numbers, "stop")
        if answer == "stop":
            raise Ended("Nothing was changed.")
        chosen = found[int(answer) - 1]
    run.journal.add(
        "decided", CHOSEN, f"{chosen['title']}: {_what_is_lost(chosen)}", by=run.person.name, candidate=chosen
    )


def chosen_candidate(run: Run) -> dict[str, Any]:
    """The candidate that was chosen; empty for none yet."""
    entry = run.journal.last("decided", CHOSEN)
    return dict(entry["data"]["candidate"]) if entry else {}


def _what_is_lost(candidate: dict[str, Any]) -> str:
    if not candidate["as_of"]:
        return "how far behind it is cannot be seen"
    age = datetime.now(UTC) - datetime.fromisoformat(candidate["as_of"])
    moment = candidate["as_of"][:19].replace("T", " ")
    return f"as of {moment} UTC; what was written in the {_minutes(age.total_seconds())} since then is lost"


def _minutes(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def ask_on(run: Run, trouble: Exception) -> None:
    """Something passing or wrong while choosing: again, or stop. Raises Ended."""
    say(f"    ! {trouble}")
    if not isinstance(trouble, Passing | Wrong) or run.person.choose("Look again, or stop?", "again", "stop") == "stop":
        raise Ended("Nothing was changed. Start it again and it goes on from here.")
