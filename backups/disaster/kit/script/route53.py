"""Route 53: the records lead to the new side, by one change set; looked at before and after.

A change that repeats what is there changes nothing, so one whose answer was lost can be sent again.
"""

from functools import partial
from typing import Any

from backups.disaster.kit.script.cloud import NotThere, call
from backups.disaster.kit.script.errors import Wrong
from backups.disaster.kit.script.running import Look, Run, State, Step

SWITCH, INSYNC_SECONDS = "traffic/switch", 900.0

Record = dict[str, Any]


def route53_switching(traffic: dict[str, Any]) -> list[Step]:
    """Send people to the new side, and wait until all of Route 53's servers say so.

    traffic: {"place", "zone", "records": record sets as they have to be}.
    """
    return [
        Step(SWITCH, "Point DNS to the new side", partial(records_look, traffic), partial(records_change, traffic),
             INSYNC_SECONDS),
        Step("traffic/insync", "Wait until all of Route 53 says so", partial(_insync_look, traffic),
             partial(records_change, traffic), INSYNC_SECONDS),
    ]  # fmt: skip


def _found(traffic: dict[str, Any], wanted: Record) -> Record | None:
    """The record set of that name, type and identifier, as it is."""
    answer = call("route53", traffic["place"], "list_resource_record_sets", HostedZoneId=traffic["zone"],
                  StartRecordName=wanted["Name"], StartRecordType=wanted["Type"], MaxItems="100")  # fmt: skip
    for one in answer["ResourceRecordSets"]:
        if _which(one) == _which(wanted):
            return dict(one)
    return None


def _which(record: Record) -> tuple[str, str, str]:
    return record["Name"].rstrip(".").lower(), record["Type"], record.get("SetIdentifier", "")


def _agrees(found: Record | None, wanted: Record) -> bool:
    """Whether it is as wanted, in all that is said of it."""
    if found is None:
        return False
    return all(_comparable(found.get(name)) == _comparable(value) for name, value in wanted.items() if name != "Name")


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _comparable(one) for name, one in value.items()}
    if isinstance(value, list):
        return sorted(str(_comparable(one)) for one in value)
    return value.rstrip(".").lower() if isinstance(value, str) else value


def _said_of(record: Record | None) -> str:
    if record is None:
        return "nothing"
    values = [one["Value"] for one in record.get("ResourceRecords", [])]
    if "AliasTarget" in record:
        values = [f"alias of {record['AliasTarget'].get('DNSName', '')}"]
    weight = f" (weight {record['Weight']})" if "Weight" in record else ""
    return f"{', '.join(values)}{weight}"


def records_look(traffic: dict[str, Any], run: Run) -> Look:
    pairs = [(_found(traffic, wanted), wanted) for wanted in traffic["records"]]
    words = "; ".join(f"{wanted['Name'].rstrip('.')} {wanted['Type']} → {_said_of(found)}" for found, wanted in pairs)
    good = all(_agrees(found, wanted) for found, wanted in pairs)
    return Look(State.DONE if good else State.OPEN, words)


def records_change(traffic: dict[str, Any], run: Run) -> None:
    changes = [{"Action": "UPSERT", "ResourceRecordSet": one} for one in traffic["records"]]
    batch = {"Comment": f"recovery kit, run {run.identity}", "Changes": changes}
    answer = call("route53", traffic["place"], "change_resource_record_sets", HostedZoneId=traffic["zone"],
                  ChangeBatch=batch)  # fmt: skip
    run.note(traffic.get("step", SWITCH), "Route 53 took the change", change=answer["ChangeInfo"]["Id"])


def _insync_look(traffic: dict[str, Any], run: Run) -> Look:
    look = records_look(traffic, run)
    if look.state is not State.DONE:
        raise Wrong(f"Somebody changed the records again: {look.words}")
    change = run.noted(SWITCH).get("change", "")
    if not change:  # its answer was lost, or the records were as wanted before
        return Look(State.OPEN, "not known when the change was made; sending it again")
    try:
        status = call("route53", traffic["place"], "get_change", Id=change)["ChangeInfo"]["Status"]
    except NotThere:
        return look
    return Look(State.DONE if status == "INSYNC" else State.UNDER_WAY, f"{change} is {status}; {look.words}")
