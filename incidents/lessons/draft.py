"""The draft of a post-mortem, made of the timeline: each sentence cites the entries that it rests on.

What the system cannot know (the root cause above all) it does not say: it names the evidence there is, and leaves a
question to a person. The guide's procedure asks for "root cause analysis, lessons learned, preventive measures".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.urls import reverse

from controlplane.web.templatetags.ui import NO_BREAK, promised
from incidents.lessons.facts import Before, Facts, Kind, Line
from incidents.lessons.markdown import plain
from incidents.models import Page

# The guide's matrix pages the team lead after so long without an acknowledgement.
LATE = timedelta(minutes=15)
CITED = 6
IN_TIMELINE = 100


@dataclass(frozen=True)
class Sentence:
    """One statement, or one question to a person, and the numbers of the entries it rests on."""

    text: str
    entries: tuple[int, ...]
    asks: bool = False

    def __str__(self) -> str:
        cited = " ".join(f"[#{number}]" for number in dict.fromkeys(self.entries[:CITED]))
        return f"**Question:** {self.text} {cited}" if self.asks else f"{self.text} {cited}."


def draft(facts: Facts) -> str:
    """The whole document, in Markdown; every line that is no heading is one sentence."""
    sections: dict[str, Iterable[Sentence]] = {
        "Summary": _summary(facts),
        "Impact": _impact(facts),
        "Root cause": _root_cause(facts),
        "Detection": _detection(facts),
        "Trigger": _trigger(facts),
        "Resolution": _resolution(facts),
        "What went well": _well(facts),
        "What went badly": _badly(facts),
        "Lessons": _lessons(facts),
        "Timeline": _timeline(facts),
    }
    return "\n\n".join(_section(title, list(sentences)) for title, sentences in sections.items()) + "\n"


def _section(title: str, sentences: Sequence[Sentence]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {sentence}" for sentence in sentences)


def _ask(text: str, *entries: int) -> Sentence:
    return Sentence(text, entries, asks=True)


def _summary(facts: Facts) -> Iterable[Sentence]:
    incident, opening = facts.incident, facts.opening
    where = ", ".join(incident.environments) or "the whole installation"
    yield Sentence(
        f"“{plain(incident.title)}” in {where} was opened at {_at(incident.opened_at)} by"
        f" {_who(incident.opened_by_name)}, and was a {incident.severity} in the end",
        (opening, *(line.seq for line in facts.of(Kind.STATE) if line.text.startswith("Severity"))),
    )
    resolved = facts.state_entry("Resolved by")
    if facts.to_acknowledge is not None:
        yield Sentence(
            f"{_who(incident.acknowledged_by_name)} acknowledged it after {_long(facts.to_acknowledge)}",
            (opening, facts.state_entry("Acknowledged by")),
        )
    else:
        yield Sentence("Nobody acknowledged it before it was resolved", (opening, resolved))
    yield Sentence(
        f"{_who(incident.resolved_by_name)} resolved it {_long(facts.to_resolve)} after it was opened",
        (opening, resolved),
    )


def _impact(facts: Facts) -> Iterable[Sentence]:
    incident = facts.incident
    graded = [line.seq for line in facts.of(Kind.STATE) if "impact" in line.data] or [facts.opening]
    yield Sentence(
        f"Its impact was graded {incident.impact}, its urgency {incident.urgency}, which makes it {incident.severity}",
        tuple(graded),
    )
    yield Sentence(
        f"It lasted {_long(facts.to_resolve)}, by its opening and its resolution",
        (facts.opening, facts.state_entry("Resolved by")),
    )
    if incident.alert_count:
        seen = [line.seq for line in facts.of(Kind.ALERT)] or [facts.opening]
        yield Sentence(f"{_many(incident.alert_count, 'alert')} belonged to it", tuple(seen))
    yield _ask("Who could not do what, and how many of them were there?", facts.opening)


def _root_cause(facts: Facts) -> Iterable[Sentence]:
    if facts.before:
        yield Sentence(
            f"The nearest change before it that is recorded is {_operation(facts.before[0])}, which ended"
            f" {_long(facts.incident.opened_at - facts.before[0].ended_at)} before; that is no proof", (facts.opening,)
        )  # fmt: skip
    else:
        yield Sentence("No deployment or rollback is recorded in the 24 hours before it", (facts.opening,))
    back = [line for line in facts.of(Kind.OPERATION) if "rollback" in line.text.lower() or "roll back" in line.text]
    if back:
        yield Sentence(
            "A rollback was part of the response, which speaks for a change as the cause if it helped",
            tuple(line.seq for line in back),
        )
    notes = facts.of(Kind.NOTE)
    if notes:
        yield Sentence(
            f"What people wrote down during it may name the cause ({_many(len(notes), 'note')})",
            tuple(line.seq for line in notes),
        )
    evidence = [line.seq for line in notes] or [facts.opening]
    yield _ask("What was the cause, and what made it possible (the system cannot know it)?", *evidence)


def _detection(facts: Facts) -> Iterable[Sentence]:
    incident, alerts = facts.incident, facts.of(Kind.ALERT)
    if by_machine(facts):
        yield Sentence("The monitoring noticed it: no person had to report it", (facts.opening,))
    else:
        who = _who(incident.opened_by_name)
        yield Sentence(f"A person reported it, {who}, not the monitoring", (facts.opening,))
    if alerts:
        yield Sentence(f"The first alert of it was “{plain(alerts[0].text)}”, at {_at(alerts[0].at)}", (alerts[0].seq,))
    if facts.levels:
        names = ", ".join(dict.fromkeys(f"L{level.number} {plain(level.role)}" for level in facts.levels))
        yield Sentence(f"Paged were {names}", tuple(_paged(facts)))
    else:
        yield Sentence("No level of an escalation was paged", (facts.opening,))
    reached = [page.person_name for page in facts.pages]
    if reached:
        people = ", ".join(plain(name) for name in dict.fromkeys(reached))
        yield Sentence(f"The pages went to {people}", tuple(_paged(facts)))
    if not by_machine(facts):
        yield _ask("Which alert would have noticed it before a person did?", facts.opening)


def _trigger(facts: Facts) -> Iterable[Sentence]:
    if facts.before:
        for one in facts.before:
            yield Sentence(
                f"{_operation(one)} by {_who(one.who)} {one.word} at {_at(one.ended_at)},"
                f" {_long(facts.incident.opened_at - one.ended_at)} before the opening", (facts.opening,)
            )  # fmt: skip
    changed = [line for line in facts.of(Kind.CHANGE) if line.at <= facts.incident.opened_at]
    for line in changed[:5]:
        yield Sentence(f"“{plain(line.text)}” was recorded at {_at(line.at)}", (line.seq,))
    alerts = facts.of(Kind.ALERT)
    if alerts:
        yield Sentence(f"What opened it was “{plain(alerts[0].text)}”", (alerts[0].seq,))
    evidence = [line.seq for line in [*changed, *alerts[:1]]] or [facts.opening]
    if facts.before or changed or alerts:
        yield _ask("What set it off just then: one of these, or something that is not recorded here?", *evidence)
    else:
        yield _ask("What set it off just then, of which nothing is recorded here?", *evidence)


def _resolution(facts: Facts) -> Iterable[Sentence]:
    incident, resolved = facts.incident, facts.state_entry("Resolved by")
    yield Sentence(f"{_who(incident.resolved_by_name)} wrote: “{plain(incident.resolution, 1000)}”", (resolved,))
    for line in facts.of(Kind.OPERATION)[:8]:
        yield Sentence(f"“{plain(line.text)}”, at {_at(line.at)}", (line.seq,))


def _well(facts: Facts) -> Iterable[Sentence]:
    found = []
    took, acknowledged = facts.to_acknowledge, facts.state_entry("Acknowledged by")
    if by_machine(facts):
        found.append(Sentence("The monitoring noticed it before a person reported it", (facts.opening,)))
    if took is not None and not _late(facts):
        words = f"It was acknowledged within {_long(took)}, before a second level had to be paged"
        found.append(Sentence(words, (facts.opening, acknowledged)))
    if facts.pages and all(page.state != Page.State.FAILED for page in facts.pages) and not _silent(facts):
        found.append(
            Sentence("Every page found a way to its person, as far as the providers say", tuple(_paged(facts)))
        )
    ticked = facts.of(Kind.CHECKLIST)
    if ticked:
        words = (
            f"{_many(len(ticked), 'line')} of the procedure's checklist {'was' if len(ticked) == 1 else 'were'} ticked"
        )
        found.append(Sentence(words, tuple(line.seq for line in ticked)))
    locked = [line.seq for line in facts.of(Kind.CHANGE) if "is locked against deployments" in line.text]
    if locked:
        found.append(Sentence("Its environments were locked against deployments while it lasted", tuple(locked)))
    yield from found
    yield _ask("What else helped, and should stay as it is?", facts.opening)


def _badly(facts: Facts) -> Iterable[Sentence]:
    yield from _late(facts)
    for line in _silent(facts):
        yield Sentence(f"“{plain(line.text)}”", (line.seq,))
    failed = [page.person_name for page in facts.pages if page.state == Page.State.FAILED]
    if failed and not _silent(facts):
        people = ", ".join(plain(name) for name in dict.fromkeys(failed))
        yield Sentence(f"No channel reached {people}", tuple(_paged(facts)))
    tried = [line for line in facts.of(Kind.PAGE) if line.text.startswith("No receipt")]
    if tried:
        words = f"{_many(len(tried), 'page')} had to go by another channel, as the first gave no receipt"
        yield Sentence(words, tuple(line.seq for line in tried))
    for line in [one for one in facts.of(Kind.OPERATION) if one.tone == "bad"][:5]:
        yield Sentence(f"An operation did not go well: “{plain(line.text)}”", (line.seq,))
    broken = [line for line in facts.of(Kind.CHANGE) if line.text.startswith("Glass broken")]
    if broken:
        yield Sentence("The lock had to be broken to deploy", tuple(line.seq for line in broken))
    if not facts.of(Kind.CHECKLIST):
        yield Sentence("No line of the procedure's checklist was ticked", (facts.state_entry("Resolved by"),))
    yield _ask("What made it worse, or longer, than it had to be?", facts.opening)


def _late(facts: Facts) -> list[Sentence]:
    """Acknowledged late: a second level had been paged, or the guide's quarter of an hour was over."""
    took = facts.to_acknowledge
    higher = [level for level in facts.levels if level.number > 1]
    if took is None:
        words = "Nobody acknowledged it: it was resolved without"
        return [Sentence(words, (facts.opening, facts.state_entry("Resolved by")))]
    cited = (facts.opening, facts.state_entry("Acknowledged by"))
    if higher:
        top = max(higher, key=lambda level: level.number)
        words = f"It was acknowledged late, after {_long(took)}: L{top.number} {plain(top.role)} had been paged by then"
        return [Sentence(words, (*cited, *_paged(facts)))]
    if took > LATE:
        words = f"It was acknowledged late, after {_long(took)}; the guide's matrix goes on after {_long(LATE)}"
        return [Sentence(words, cited)]
    return []


def _lessons(facts: Facts) -> Iterable[Sentence]:
    cited = [line.seq for line in _silent(facts)] or [facts.opening]
    yield _ask("What would have prevented it, and who will see to it, until when?", facts.opening)
    yield _ask("What would have made it shorter, or noticed it sooner?", *cited)


def _timeline(facts: Facts) -> Iterable[Sentence]:
    lines = facts.lines[:IN_TIMELINE]
    for line in lines:
        yield Sentence(f"{_at(line.at)}: {plain(line.text)}", (line.seq,))
    if facts.incident.last_seq > len(lines):
        words = f"The incident's page has all {facts.incident.last_seq} entries"
        yield Sentence(words, (facts.opening,))


def by_machine(facts: Facts) -> bool:
    """Whether an alert or a rule opened it, not a person."""
    return facts.incident.opened_by_name.startswith("system:") or bool(facts.incident.group_key)


def _paged(facts: Facts) -> list[int]:
    return [line.seq for line in facts.of(Kind.PAGE) if "level" in line.data] or [facts.opening]


def _silent(facts: Facts) -> list[Line]:
    """Pages that reached nobody, channels that failed, nobody on call: what the engine marked as bad."""
    return [line for line in facts.of(Kind.PAGE) if line.tone == "bad"]


def _operation(one: Before) -> str:
    return f"[operation {one.operation}, {plain(one.title)}]({reverse('operation', args=[one.operation])})"


def _who(name: str) -> str:
    """A machine of ours is the control plane to those who read it."""
    return f"the control plane ({plain(name[8:])})" if name.startswith("system: ") else plain(name)


def _at(at: datetime) -> str:
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %Y %H:%M:%S} UTC"


def _long(length: timedelta) -> str:
    return promised(length).replace(NO_BREAK, " ")


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
