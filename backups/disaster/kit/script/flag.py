"""A flag in the new side's region, an object or an alarm: health checks follow it, and DNS without Route 53's API."""

from functools import partial
from typing import Any

from backups.disaster.kit.script.cloud import NotThere, call
from backups.disaster.kit.script.errors import Wrong
from backups.disaster.kit.script.running import Look, Run, State, Step

FLAG_BODY = b"People are sent to the standby while this object is here.\n"

Flag = dict[str, Any]


def flag_switching(flag: Flag) -> list[Step]:
    """Raise or lower it. flag: {"place", "by": "object" or "alarm", "bucket", "name", "raised"}."""
    verb = "Raise" if flag["raised"] else "Lower"
    return [
        Step("traffic/flag", f"{verb} the flag {flag['name']}", partial(_flag_look, flag), partial(_flag_set, flag))
    ]


def _flag_is_up(flag: Flag) -> bool:
    if flag["by"] == "alarm":
        answer = call("cloudwatch", flag["place"], "describe_alarms", AlarmNames=[flag["name"]])
        found = [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
        if not found:
            raise Wrong(f"There is no alarm {flag['name']} in {flag['place']['region']}.")
        return bool(found[0]["StateValue"] == "ALARM")
    try:
        call("s3", flag["place"], "head_object", Bucket=flag["bucket"], Key=flag["name"])
    except NotThere:
        return False
    return True


def _flag_look(flag: Flag, run: Run) -> Look:
    up = _flag_is_up(flag)
    words = f"{flag['name']} is {'raised' if up else 'lowered'}"
    return Look(State.DONE if up == flag["raised"] else State.OPEN, words)


def _flag_set(flag: Flag, run: Run) -> None:
    where = {"Bucket": flag["bucket"], "Key": flag["name"]}
    if flag["by"] == "alarm":
        state, why = "ALARM" if flag["raised"] else "OK", f"recovery kit, run {run.identity}"
        call("cloudwatch", flag["place"], "set_alarm_state", AlarmName=flag["name"], StateValue=state, StateReason=why)
    elif flag["raised"]:
        call("s3", flag["place"], "put_object", **where, Body=FLAG_BODY, ContentType="text/plain")
    else:
        call("s3", flag["place"], "delete_object", **where)
