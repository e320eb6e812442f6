from django.apps import AppConfig


class BackupsConfig(AppConfig):
    name = "backups"

    def ready(self) -> None:
        """Register kinds and steps of operations, sections of the file, the clock's duties, and the board's line."""
        from backups import alerts, before, board, cleaning, declarations, duties, kinds, proofs, restores, steps
        from backups.disaster import board as recovery_board
        from backups.disaster import panels, pulse, registering
        from controlplane.clock.registry import register
        from controlplane.operations.registry import register_kind, register_step
        from environments import cards, conditions
        from environments.declarations.sections import register_section

        for kind in kinds.KINDS:
            register_kind(kind)
        for functions in (steps.STEPS, proofs.STEPS, restores.STEPS, cleaning.STEPS, before.STEPS):
            for name, function in functions.items():
                register_step(name, function)
        for section in (declarations.STORAGES, declarations.POLICIES):
            register_section(section)
        conditions.register("backup", before.condition)
        cards.register(board.protection)
        cards.register(recovery_board.recovery)
        register("start backups", 1.0, duties.start_due)
        register("start restore tests", 1.0, duties.prove_due)
        register("clean up backups", 5.0, duties.clean_due)
        register("watch backups", 5.0, alerts.watch)
        register("remove scratch databases", 30.0, restores.remove_scratch)
        registering.register_all()
        panels.register(pulse.panel)
