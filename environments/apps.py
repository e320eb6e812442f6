from django.apps import AppConfig


class EnvironmentsConfig(AppConfig):
    name = "environments"

    def ready(self) -> None:
        """Register the steps of every driver, the scopes to give roles in, the sections of the file, and the probes."""
        from controlplane.accounts import scopes
        from controlplane.clock.registry import register
        from controlplane.operations.registry import register_step
        from environments import drift, probes
        from environments.access import all_scopes
        from environments.declarations.estate import ENVIRONMENTS, SERVICES
        from environments.declarations.people import PEOPLE
        from environments.declarations.sections import register_section
        from environments.drivers import DRIVERS

        for driver in DRIVERS.values():
            for name, function in driver.steps.items():
                register_step(name, function)
        for section in (SERVICES, ENVIRONMENTS, PEOPLE):
            register_section(section)
        scopes.register(all_scopes)
        register("probe health", 1.0, probes.probe_due)
        register("look for drift", 2.0, drift.look_due)
        register("forget old health", 600.0, probes.forget_old)
