"""What must always be true of incidents, as SQL that finds where it is not. Each row: which one, and what is wrong.

The engine commits each of its moves whole, so most of these hold at every moment. Those that wait for a process have
a patience well below 30 s, so that with a look every 10 s nothing stays unseen for longer than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from incidents.auditor import paging_sql as paging
from incidents.auditor import upkeep_sql as upkeep


@dataclass(frozen=True)
class Invariant:
    """name: begins the keys of its alarms. promise: what holds, in words. sql: (text, text) for each that breaks it."""

    name: str
    promise: str
    sql: LiteralString


INVARIANTS = (
    Invariant("escalation-ended", "an open incident has somebody still to page", paging.ESCALATION_ENDED),
    Invariant("level-missing", "an open incident has every level of its matrix", paging.LEVEL_MISSING),
    Invariant("level-planned-late", "levels are due when the matrix says, from the opening", paging.LEVEL_PLANNED_LATE),
    Invariant("level-overdue", "a level is paged within 15 s of its time", paging.LEVEL_OVERDUE),
    Invariant("level-left", "acknowledging ends the rest of the escalation", paging.LEVEL_LEFT),
    Invariant("level-silent", "a paged level has its pages, or says why not", paging.LEVEL_SILENT),
    Invariant("level-passed", "a level is passed over only for a higher one", paging.LEVEL_PASSED),
    Invariant("level-untold", "a paged level stands in the timeline", paging.LEVEL_UNTOLD),
    Invariant("page-undelivered", "a page has its delivery in the outbox", paging.PAGE_UNDELIVERED),
    Invariant("page-doubled", "a page has one delivery for each channel it tried", paging.PAGE_DOUBLED),
    Invariant("page-left-alone", "the next channel is tried when a receipt is missing", paging.PAGE_LEFT_ALONE),
    Invariant("receipt-late", "a page without a receipt goes to the next channel", paging.RECEIPT_LATE),
    Invariant("delivery-waiting", "the outbox is emptied within 15 s", paging.DELIVERY_WAITING),
    Invariant("delivery-stuck", "nothing is being sent for longer than a lease", paging.DELIVERY_STUCK),
    Invariant("acceptance-lost", "what a provider took, the page and the incident know", paging.ACCEPTANCE_LOST),
    Invariant("nobody-notified", "somebody is notified within 20 s of the first level", paging.NOBODY_NOTIFIED),
    Invariant("silence-untold", "that nobody was notified stands in the timeline", paging.SILENCE_UNTOLD),
    Invariant("page-after-acknowledgement", "no page leaves after the acknowledgement", paging.PAGE_AFTER),
    Invariant("outbox-left", "acknowledging empties the outbox of pages", paging.OUTBOX_LEFT),
    Invariant("pagerduty-untold", "PagerDuty hears of acknowledgement and end", paging.PAGERDUTY_UNTOLD),
    Invariant("alert-waiting", "an alert is handled within 15 s", upkeep.ALERT_WAITING),
    Invariant("alert-untold", "an alert comes to its incident within 15 s", upkeep.ALERT_UNTOLD),
    Invariant("alert-failed", "what a source may send can be handled", upkeep.ALERT_FAILED),
    Invariant("rules-silent", "every alert rule is evaluated", upkeep.RULES_SILENT),
    Invariant("group-twice", "one cause has one unresolved incident", upkeep.GROUP_TWICE),
    Invariant("timeline-head", "the timeline ends where the incident says", upkeep.TIMELINE_HEAD),
    Invariant("state-untold", "opening, acknowledging and resolving stand in the timeline", upkeep.STATE_UNTOLD),
    Invariant("checklist-missing", "an incident has its checklist", upkeep.CHECKLIST_MISSING),
    Invariant("lock-missing", "an unresolved P1 locks its environments", upkeep.LOCK_MISSING),
    Invariant("lock-left", "the lock goes with the incident", upkeep.LOCK_LEFT),
    Invariant("glass-open", "broken glass is closed in time", upkeep.GLASS_OPEN),
    Invariant("clock-silent", "a clock beats at least every 15 s", upkeep.CLOCK_SILENT),
    Invariant("postmortem-missing", "a resolved incident has a post-mortem draft", upkeep.POSTMORTEM_MISSING),
)
