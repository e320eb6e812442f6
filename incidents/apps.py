from django.apps import AppConfig


class IncidentsConfig(AppConfig):
    name = "incidents"

    def ready(self) -> None:
        """Register the clock's duties, sections of the file, and what the board says."""
        from controlplane.clock.registry import register
        from incidents import holds
        from incidents.escalation import clock

        register("escalate", 0.25, clock.fire_due)
        register("follow up pages", 1.0, clock.follow_up)
        register("tell of silence", 2.0, clock.tell_of_silence)
        register("end broken glass", 5.0, holds.end_broken)
