from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "controlplane.operations"
    label = "operations"

    def ready(self) -> None:
        """Register what the clock and the live pages do for operations."""
        from controlplane.clock.registry import register
        from controlplane.live.sources import register as register_source
        from controlplane.operations import deeds, ticks
        from controlplane.operations.stream import OperationSource

        register("hand on operations", 1.0, ticks.hand_on)
        register("expire approvals", 10.0, ticks.expire_approvals)
        register("recount approvals", 10.0, ticks.recount_approvals)
        register("start scheduled operations", 1.0, ticks.start_scheduled)
        register("expire unstarted operations", 1.0, ticks.expire_starts)
        register("compare deeds", 1.0, deeds.ask_due)
        register("forget idempotency keys", 600.0, ticks.forget_keys)
        register_source(OperationSource())
