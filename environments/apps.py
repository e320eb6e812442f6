from django.apps import AppConfig


class EnvironmentsConfig(AppConfig):
    name = "environments"

    def ready(self) -> None:
        """Register the steps of every driver."""
        from controlplane.operations.registry import register_step
        from environments.drivers import DRIVERS

        for driver in DRIVERS.values():
            for name, function in driver.steps.items():
                register_step(name, function)
