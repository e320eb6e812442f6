"""What incidents register when the app is ready: the clock's duties, sections of the file, what others ask them."""

from collections.abc import Callable
from functools import partial

from backups.disaster import emergencies
from backups.disaster import telling as recovery_telling
from controlplane.clock.registry import register
from deployments.insight import trouble
from environments import cards
from environments import conditions as environment_conditions
from environments.declarations.sections import register_section
from incidents import board, conditions, holds, matrix_declarations, noting, recoveries, troubles
from incidents.channels import CHANNELS
from incidents.channels import declarations as channel_declarations
from incidents.channels.sender import send_due
from incidents.escalation import clock
from incidents.intake import declarations as intake_declarations
from incidents.intake import grouping, handling, telling, watching
from incidents.lessons import documents, reminders
from incidents.oncall import ahead
from incidents.oncall import declarations as oncall_declarations
from incidents.rules import clockwork, declarations
from incidents.runbook import declarations as runbook_declarations
from incidents.runbook import duty as runbook

# In the order in which `manage.py apply` goes through them.
SECTIONS = (
    channel_declarations.SECTION,
    oncall_declarations.SCHEDULES,
    matrix_declarations.POLICIES,
    matrix_declarations.REACH,
    intake_declarations.SOURCES,
    intake_declarations.RULES,
    declarations.RULES,
    declarations.PROBES,
    runbook_declarations.RUNBOOK,
    runbook_declarations.CONTACTS,
)
# Name, how often in seconds, what.
DUTIES: tuple[tuple[str, float, Callable[[], int]], ...] = (
    ("watch recovery plans", 5.0, recoveries.watch_recoveries),
    ("escalate", 0.25, clock.fire_due),
    *((f"send {channel}", 0.25, partial(send_due, channel)) for channel in CHANNELS),
    ("follow up pages", 1.0, clock.follow_up),
    ("tell of silence", 2.0, clock.tell_of_silence),
    ("end broken glass", 5.0, holds.end_broken),
    ("note operations", 1.0, noting.note_new),
    ("handle alerts", 0.25, handling.handle_stored),
    ("group alerts", 0.25, grouping.group_due),
    ("say what alerts do", 1.0, telling.say_unsaid),
    ("acknowledge by events", 0.5, telling.acknowledge_wanted),
    ("end quiet incidents", 2.0, telling.resolve_what_is_over),
    ("watch ourselves", 2.0, watching.watch),
    ("forget old bodies", 60.0, handling.forget_old),
    ("draft post-mortems", 1.0, documents.draft_due),
    ("remind of action items", 30.0, reminders.remind),
    ("look ahead on call", 60.0, ahead.look_ahead),
    *clockwork.DUTIES,
    ("open runbook runs", 30.0, runbook.open_due),
    ("miss runbook runs", 5.0, runbook.miss_due),
    ("look for the runbook", 15.0, runbook.look),
)


def register_all() -> None:
    """Called once, by `IncidentsConfig.ready()`."""
    cards.register(board.standing)
    trouble.register(troubles.troubles_in)
    environment_conditions.register("incidents", conditions.none_open)
    environment_conditions.register("emergency", conditions.emergency)
    emergencies.register(recoveries.why_not)
    recovery_telling.register(recoveries.tell)
    for section in SECTIONS:
        register_section(section)
    for name, every, function in DUTIES:
        register(name, every, function)
