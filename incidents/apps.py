from functools import partial

from django.apps import AppConfig


class IncidentsConfig(AppConfig):
    name = "incidents"

    def ready(self) -> None:
        """Register the clock's duties, sections of the file, and what the board says."""
        from controlplane.clock.registry import register
        from environments import cards
        from environments.declarations.sections import register_section
        from incidents import board, holds, matrix_declarations, noting
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

        cards.register(board.standing)
        register("escalate", 0.25, clock.fire_due)
        for channel in CHANNELS:
            register(f"send {channel}", 0.25, partial(send_due, channel))
        register("follow up pages", 1.0, clock.follow_up)
        register("tell of silence", 2.0, clock.tell_of_silence)
        register("end broken glass", 5.0, holds.end_broken)
        register("note operations", 1.0, noting.note_new)
        register("handle alerts", 0.25, handling.handle_stored)
        register("group alerts", 0.25, grouping.group_due)
        register("say what alerts do", 1.0, telling.say_unsaid)
        register("acknowledge by events", 0.5, telling.acknowledge_wanted)
        register("end quiet incidents", 2.0, telling.resolve_what_is_over)
        register("watch ourselves", 2.0, watching.watch)
        register("forget old bodies", 60.0, handling.forget_old)
        register("draft post-mortems", 1.0, documents.draft_due)
        register("remind of action items", 30.0, reminders.remind)
        register("look ahead on call", 60.0, ahead.look_ahead)
        register_section(channel_declarations.SECTION)
        for section in (oncall_declarations.SCHEDULES, matrix_declarations.POLICIES, matrix_declarations.REACH):
            register_section(section)
        for section in (intake_declarations.SOURCES, intake_declarations.RULES):
            register_section(section)
        for section in (declarations.RULES, declarations.PROBES):
            register_section(section)
        for name, every, function in clockwork.DUTIES:
            register(name, every, function)
        register("open runbook runs", 30.0, runbook.open_due)
        register("miss runbook runs", 5.0, runbook.miss_due)
        register("look for the runbook", 15.0, runbook.look)
        for section in (runbook_declarations.RUNBOOK, runbook_declarations.CONTACTS):
            register_section(section)
