"""A hosted zone of Route 53: its records of a name, changes to them, and what its name servers answer.

Route 53 is one for the world, with its control plane in us-east-1: without that region nothing here may work, while
names go on being answered. A change is sent once; after no answer the records say whether it was taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.operations.plans import Arguments
from controlplane.operations.registry import StepContext, Verdict, passed, pending
from environments.aws import CHANGE_ATTEMPTS, READ_ATTEMPTS, Account, in_words, other

REGION = "us-east-1"  # what a signature for Route 53 names
ACCOUNT: Arguments = {"endpoint_url": "", "access_key": "", "secret_key": "", "answer_seconds": 20.0}
Record = dict[str, Any]


def dotted(name: str) -> str:
    """A name as Route 53 writes it: in small letters, with its last dot."""
    return name.lower().rstrip(".") + "."


def place_of(settings: Mapping[str, Any]) -> Arguments:
    """How to ask Route 53, from the settings of a plan's part."""
    return {
        "zone": settings["zone"],
        **{key: settings.get(f"dns_{key}", settings.get(key, ACCOUNT[key])) for key in ACCOUNT},
    }


@dataclass(frozen=True)
class Zone:
    """One hosted zone. All calls raise StepError, in words."""

    account: Account
    identity: str

    @classmethod
    def at(cls, place: Arguments) -> "Zone":
        """The zone that a step's arguments name."""
        return cls(Account.of({**place, "region": REGION}), place["zone"])

    @property
    def _words(self) -> str:
        return f"zone {self.identity}"

    def records(self, name: str) -> list[Record]:
        """All records of exactly this name."""
        wanted = dotted(name)
        with in_words("route53:ListResourceRecordSets", self._words):
            answer = other("route53", self.account, READ_ATTEMPTS).list_resource_record_sets(
                HostedZoneId=self.identity, StartRecordName=wanted, MaxItems="100"
            )
        return [one for one in answer["ResourceRecordSets"] if dotted(one["Name"]) == wanted]

    def change(self, changes: Sequence[tuple[str, Record]]) -> str:
        """All of it or nothing: ("UPSERT" or "DELETE", record); returns the change's id."""
        batch = {
            "Comment": "by the control plane, as a part of a recovery",
            "Changes": [{"Action": action, "ResourceRecordSet": record} for action, record in changes],
        }
        with in_words("route53:ChangeResourceRecordSets", self._words):
            answer = other("route53", self.account, CHANGE_ATTEMPTS).change_resource_record_sets(
                HostedZoneId=self.identity, ChangeBatch=batch
            )
        return str(answer["ChangeInfo"]["Id"])

    def is_in_sync(self, change: str) -> bool:
        """Whether all name servers have the change."""
        with in_words("route53:GetChange", change):
            answer = other("route53", self.account, READ_ATTEMPTS).get_change(Id=change)
        return bool(answer["ChangeInfo"]["Status"] == "INSYNC")

    def answer(self, name: str, kind: str) -> list[str]:
        """What its name servers answer; [] for no such record."""
        with in_words("route53:TestDNSAnswer", f"{name} in {self._words}"):
            answer = other("route53", self.account, READ_ATTEMPTS).test_dns_answer(
                HostedZoneId=self.identity, RecordName=name, RecordType=kind
            )
        return [str(value).rstrip(".") for value in answer["RecordData"]] if answer["ResponseCode"] == "NOERROR" else []


def same(one: Record, wanted: Record) -> bool:
    """Whether a record is already what it is to become."""
    return _essence(one) == _essence(wanted)


def _essence(record: Record) -> Record:
    values = sorted(value["Value"].rstrip(".") for value in record.get("ResourceRecords", []))
    alias = record.get("AliasTarget")
    target = alias and (alias["HostedZoneId"], dotted(alias["DNSName"]), bool(alias.get("EvaluateTargetHealth")))
    keys = ("Type", "TTL", "SetIdentifier", "Weight", "Failover", "HealthCheckId")
    return {"name": dotted(record["Name"]), "values": values, "alias": target, **{key: record.get(key) for key in keys}}


def upsert(context: StepContext, zone: Zone, wanted: Sequence[Record]) -> None:
    """Change what is not as wanted yet, in one change set, and note its id."""
    context.check()
    change = zone.change([("UPSERT", record) for record in wanted])
    context.save_checkpoint(change=change)
    names = ", ".join(sorted({record["Name"].rstrip(".") for record in wanted}))
    context.log(f"asked Route 53 to change {names} ({change.rpartition('/')[2]})")


def are_there(zone: Zone, wanted: Sequence[Record]) -> bool:
    """Whether the zone has all of these records."""
    found = {name: zone.records(name) for name in {record["Name"] for record in wanted}}
    return all(any(same(one, record) for one in found[record["Name"]]) for record in wanted)


def has_spread(zone: Zone, change: str, wanted: Sequence[Record]) -> Verdict:
    """Do all name servers have it? change: its id, "" when nobody heard it; then the name servers are asked."""
    if change:
        return passed("all name servers have it") if zone.is_in_sync(change) else pending("PENDING in Route 53")
    for record in wanted:
        values = {value["Value"].rstrip(".") for value in record.get("ResourceRecords", [])}
        if record.get("Weight") == 0:
            continue
        heard = zone.answer(record["Name"], record["Type"])
        if not heard or (values and not set(heard) <= values):
            return pending(f"the name servers answer {', '.join(heard) or 'nothing'} for {record['Name'].rstrip('.')}")
    return passed("the name servers answer with it")
