"""Services on Amazon ECS: stopped on the old side, proven to be stopped, started on the new one."""

from functools import partial
from typing import Any

from backups.disaster.kit.script.cloud import NotThere, Place, call
from backups.disaster.kit.script.errors import Wrong
from backups.disaster.kit.script.running import Look, Run, State, Step

STABLE_SECONDS = 1800.0
LENIENT_SECONDS = 15.0


def app_stopping(application: dict[str, Any], seconds: float) -> list[Step]:
    """Set the old side's desired count to 0, as far as it can be reached."""
    name, place = application["service"], application["from"]
    return [
        Step(f"fence/{name}/stop", f"Stop {name} in {place['environment']}", partial(_count_asked_for, place, 0),
             partial(_set_count, place, 0), min(seconds, LENIENT_SECONDS), lenient=True)
    ]  # fmt: skip


def app_proving(application: dict[str, Any], seconds: float) -> list[Step]:
    """See that nothing of it runs there."""
    name, place = application["service"], application["from"]
    proof = (
        f"{name} may still run in {place['environment']}. If it does, it goes on writing to the old database, and what "
        "it writes there will be missing here."
    )
    return [
        Step(f"fence/{name}/proof", f"Prove that no {name} runs in {place['environment']}",
             partial(_no_task_runs, place), partial(_set_count, place, 0), seconds, proof=proof)
    ]  # fmt: skip


def app_starting(application: dict[str, Any]) -> list[Step]:
    """So many on the new side."""
    name, place, count = application["service"], application["to"], int(application["count"])
    return [
        Step(f"applications/{name}/start", f"Start {count} × {name} in {place['environment']}",
             partial(_count_asked_for, place, count), partial(_set_count, place, count))
    ]  # fmt: skip


def app_waiting(application: dict[str, Any]) -> list[Step]:
    """Until they run."""
    name, place, count = application["service"], application["to"], int(application["count"])
    return [
        Step(f"applications/{name}/stable", f"Wait until {count} × {name} run in {place['environment']}",
             partial(_all_tasks_run, place, count), seconds=STABLE_SECONDS)
    ]  # fmt: skip


def _ecs_service(place: Place) -> dict[str, Any]:
    try:
        answer = call("ecs", place, "describe_services", cluster=place["cluster"], services=[place["service"]])
    except NotThere as error:
        raise Wrong(f"{error} Check region, cluster and service in plan.json.") from None
    found = next((one for one in answer["services"] if one["status"] == "ACTIVE"), None)
    if found is None:
        raise Wrong(f"There is no active service {place['service']} in cluster {place['cluster']} ({place['region']}).")
    return dict(found)


def _ecs_counts(service: dict[str, Any]) -> str:
    return f"{service['desiredCount']} desired, {service['runningCount']} running, {service['pendingCount']} pending"


def _count_asked_for(place: Place, count: int, run: Run) -> Look:
    service = _ecs_service(place)
    return Look(State.DONE if service["desiredCount"] == count else State.OPEN, _ecs_counts(service))


def _set_count(place: Place, count: int, run: Run) -> None:
    call("ecs", place, "update_service", cluster=place["cluster"], service=place["service"], desiredCount=count)


def _no_task_runs(place: Place, run: Run) -> Look:
    service = _ecs_service(place)
    if service["desiredCount"]:
        return Look(State.OPEN, _ecs_counts(service))
    # The counts of a service lag behind: its tasks are asked for as well.
    tasks = call("ecs", place, "list_tasks", cluster=place["cluster"], serviceName=place["service"],
                 desiredStatus="RUNNING")["taskArns"]  # fmt: skip
    if service["runningCount"] or service["pendingCount"] or tasks:
        return Look(State.UNDER_WAY, f"{_ecs_counts(service)}, {len(tasks)} tasks listed")
    return Look(State.DONE, f"{_ecs_counts(service)}, and no task is listed")


def _all_tasks_run(place: Place, count: int, run: Run) -> Look:
    service = _ecs_service(place)
    now: dict[str, Any] = next((one for one in service["deployments"] if one["status"] == "PRIMARY"), {})
    rollout = now.get("rolloutState", "")
    words = _ecs_counts(service) + (f", rollout {rollout.lower().replace('_', ' ')}" if rollout else "")
    if rollout == "FAILED":
        raise Wrong(f"{words}: {now.get('rolloutStateReason') or 'ECS does not say why'}")
    if service["desiredCount"] != count:
        raise Wrong(f"{words}: somebody else, or auto scaling, changed the count")
    arrived = service["runningCount"] == count and service["pendingCount"] == 0 and rollout in ("COMPLETED", "")
    return Look(State.DONE if arrived else State.UNDER_WAY, words)
