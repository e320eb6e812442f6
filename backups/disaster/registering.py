"""What disaster recovery registers when the app is ready: kinds, steps, the section of the file, the clock's duties."""

from collections.abc import Iterable

from backups.disaster import declarations, duties, faults, kinds, region_mends, regions, steps
from backups.disaster.base import Database, Traffic, Uploads
from backups.disaster.databases import DATABASES
from backups.disaster.kit import duties as kit
from backups.disaster.traffic import TRAFFIC
from backups.disaster.uploads import UPLOADS
from controlplane.clock.registry import register
from controlplane.operations.registry import register_kind, register_step
from environments.declarations.sections import register_section


def register_all() -> None:
    """Called once, by `BackupsConfig.ready()`."""
    for kind in (*kinds.KINDS, region_mends.KIND):
        register_kind(kind)
    parts: Iterable[Database | Traffic | Uploads] = (*DATABASES.values(), *TRAFFIC.values(), *UPLOADS.values())
    for functions in (steps.STEPS, faults.STEPS, *(part.steps for part in parts)):
        for name, function in functions.items():
            register_step(name, function)
    register_section(declarations.PLANS)
    register("look at recovery plans", 5.0, duties.look_due)
    register("rehearse recovery plans", 5.0, duties.rehearse_due)
    register("look at both regions", 5.0, regions.look_due)
    register("export recovery kits", 10.0, kit.export_due)
    register("fence what comes back", 5.0, duties.fence_late)
