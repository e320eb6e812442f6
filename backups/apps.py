from django.apps import AppConfig


class BackupsConfig(AppConfig):
    name = "backups"

    def ready(self) -> None:
        """Register kinds and steps of operations, sections of the file, the clock's duties, and the board's line."""
        from backups import alerts, board, cleaning, declarations, duties, kinds, proofs, restores, steps
        from controlplane.clock.registry import register
        from controlplane.operations.registry import register_kind, register_step
        from environments import cards
        from environments.declarations.sections import register_section

        for kind in kinds.KINDS:
            register_kind(kind)
        for functions in (steps.STEPS, proofs.STEPS, restores.STEPS, cleaning.STEPS):
            for name, function in functions.items():
                register_step(name, function)
        for section in (declarations.STORAGES, declarations.POLICIES):
            register_section(section)
        cards.register(board.protection)
        register("start backups", 1.0, duties.start_due)
        register("start restore tests", 1.0, duties.prove_due)
        register("clean up backups", 5.0, duties.clean_due)
        register("watch backups", 5.0, alerts.watch)
        register("remove scratch databases", 30.0, restores.remove_scratch)
