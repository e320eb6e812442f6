"""From a recovery plan's row to the engine's plan: the parts of its drivers, put together. Pure but for rows."""

from collections.abc import Sequence

from backups.disaster.applications import applications
from backups.disaster.base import Candidate, Part, Reachable, Returning, Side, Traffic
from backups.disaster.databases import DATABASES
from backups.disaster.plans import Parts, drill_plan, failback_plan, failover_plan, late_fence_plan
from backups.disaster.sides import database_part, side, sides
from backups.disaster.traffic import TRAFFIC
from backups.disaster.uploads import UPLOADS
from backups.disaster.way_back import way_back
from backups.models import Recovery, RecoveryPlan
from controlplane.operations.errors import Invalid
from controlplane.operations.plans import Plan
from environments.models import Environment


def drill_name(plan: RecoveryPlan) -> str:
    """What everything of a drill is called, so that it is found again and never taken for the real thing."""
    return f"{plan.slug}-drill"


def assemble(plan: RecoveryPlan, kind: str, candidate: Candidate | None, faults: Sequence[str] = ()) -> Plan:
    """The steps of a failover or drill from a candidate; a failback and a late fence need none. Raises Invalid."""
    if kind == Recovery.Kind.FENCE:
        return _late_fence(plan)
    if kind == Recovery.Kind.FAILBACK:
        return failback_plan(_parts(plan, kind, None))
    if candidate is None:
        raise Invalid("There is nothing that the database could come back from. Look at the plan's readiness.")
    parts = _parts(plan, kind, candidate)
    return drill_plan(parts, candidate, faults) if kind == Recovery.Kind.DRILL else failover_plan(parts, candidate)


def _parts(plan: RecoveryPlan, kind: str, candidate: Candidate | None) -> Parts:
    source = plan.serving
    drill = drill_name(plan) if kind == Recovery.Kind.DRILL else ""
    database = DATABASES[plan.database["kind"]]
    from_database, to_database = sides(plan, database_part(plan), source)
    traffic = TRAFFIC[plan.traffic["kind"]]
    from_traffic, to_traffic = sides(plan, plan.traffic, source)
    restore = (
        database.reverse(from_database, to_database)
        if candidate is None
        else database.restore(from_database, to_database, candidate, scratch=drill)
    )
    there = applications(plan, source)
    home: object = database
    back = (
        way_back(there, home.give_back(from_database, to_database), traffic.switch(to_traffic, from_traffic))
        if kind == Recovery.Kind.FAILBACK and isinstance(home, Returning)
        else ()
    )
    return Parts(
        source=source.slug,
        target=_other(plan, source).slug,
        about={"plan": plan.slug, "kind": kind},
        applications=there,
        database=restore,
        traffic=traffic.switch(from_traffic, to_traffic, drill=drill),
        uploads=_uploads(plan, source) if not drill else Part(),
        fence=database.fence(from_database),
        withdrawal=traffic.withdraw(from_traffic),
        url=_outside(traffic, to_traffic, drill),
        tell=plan.tell,
        # They are the standby's: at home everything is as it was.
        configuration=plan.configuration if kind == Recovery.Kind.FAILOVER else {},
        back=back,
    )


def _late_fence(plan: RecoveryPlan) -> Plan:
    left = plan.waiting
    fence = DATABASES[plan.database["kind"]].fence(side(plan, database_part(plan), left))
    return late_fence_plan(left.slug, applications(plan, left), fence)


def _outside(traffic: Traffic, target: Side, drill: str) -> str:
    """As the plan says; where it says nothing, as the driver knows."""
    said = str(target.settings.get("drill_url" if drill else "url", ""))
    known: object = traffic
    return known.outside(target, drill) if not said and isinstance(known, Reachable) else said


def _other(plan: RecoveryPlan, environment: Environment) -> Environment:
    return plan.standby if environment == plan.primary else plan.primary


def _uploads(plan: RecoveryPlan, source: Environment) -> Part:
    """A drill leaves them alone: the real ones of the other region are not to be touched for a rehearsal."""
    if not plan.uploads:
        return Part()
    return UPLOADS[plan.uploads["kind"]].mend(*sides(plan, plan.uploads, source))
