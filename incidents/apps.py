from django.apps import AppConfig


class IncidentsConfig(AppConfig):
    name = "incidents"

    def ready(self) -> None:
        """Register the clock's duties, sections of the file, and what the board says."""
        from incidents.registering import register_all

        register_all()
