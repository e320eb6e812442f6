"""What moto leaves out of Route 53: changes that spread, health checks that follow flags, and an answer to a name."""

import random
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from moto.backends import get_backend

from tests.aws.requests import Request

if TYPE_CHECKING:
    from tests.aws.cloud import Cloud

ACCOUNT = "123456789012"
# What health checks may follow.
FLAG_ACTIONS = ("PutObject", "DeleteObject", "SetAlarmState")


class Names:
    """Zones and health checks over time. `lookup` is what a resolver anywhere in the world gets."""

    def __init__(self, cloud: "Cloud") -> None:
        self.cloud = cloud
        self.reset()

    def reset(self) -> None:
        """A new world."""
        self._changes: dict[str, datetime] = {}
        # By zone: what the name servers say; by health check: whether it is well.
        self._spread: dict[str, list[Any]] = {}
        self._health: dict[str, bool] = {}
        self._alarms: dict[str, dict[str, str]] = {}
        self._random = random.Random(5)

    # --- for tests ----------------------------------------------------------------------------------

    def lookup(self, name: str, kind: str = "A") -> list[str]:
        """The values that a resolver gets now: changes that are not INSYNC do not count, and nothing is cached.

        An alias is answered with the name it points to.
        """
        self.cloud.settle()
        wanted = name.rstrip(".") + "."
        for records in self._spread.values():
            found = [one for one in records if one.name == wanted and one.type in (kind, "CNAME")]
            if found:
                return _values(self._chosen(found))
        return []

    def note(self) -> None:
        """Take what zones and health checks are now for what the world sees, without any delay."""
        self._spread = {zone: list(content.rrsets) for zone, content in self._backend().zones.items()}
        self._health = {one: self._is_well(check) for one, check in self._backend().health_checks.items()}

    # --- for the layer ------------------------------------------------------------------------------

    def own_answer(self, request: Request) -> str | None:
        """The document of what moto does not play, or plays without time."""
        if request.action == "GetChange":
            change = request.path.rpartition("/")[2]
            if change in self._changes:
                status = "INSYNC" if self._changes[change] <= self.cloud.clock.now() else "PENDING"
                return f"<GetChangeResponse>{_info(change, status)}</GetChangeResponse>"
        if request.action == "TestDNSAnswer":
            values = self.lookup(request.values["recordname"], request.values["recordtype"])
            rows = "".join(f"<RecordDataEntry>{value}</RecordDataEntry>" for value in values)
            code = "NOERROR" if values else "NXDOMAIN"
            return (
                f"<TestDNSAnswerResponse><RecordName>{request.values['recordname']}</RecordName>"
                f"<RecordData>{rows}</RecordData><ResponseCode>{code}</ResponseCode></TestDNSAnswerResponse>"
            )
        if request.action == "GetHealthCheckStatus":
            well = self._health.get(request.path.split("/")[-2], True)
            words = "Success: all well" if well else "Failure: not well"
            return (
                "<GetHealthCheckStatusResponse><HealthCheckObservations><HealthCheckObservation>"
                f"<StatusReport><Status>{words}</Status></StatusReport>"
                "</HealthCheckObservation></HealthCheckObservations></GetHealthCheckStatusResponse>"
            )
        return None

    def after(self, request: Request, content: bytes) -> bytes:
        """Let a change spread; the answer says that it has not yet."""
        if request.action == "ChangeResourceRecordSets":
            change = f"C{len(self._changes) + 1:08}"
            seconds = self.cloud.durations.dns
            self._changes[change] = self.cloud.later(seconds, self._publish_zone(_zone_of(request)))
            answer = f"<ChangeResourceRecordSetsResponse>{_info(change, 'PENDING')}</ChangeResourceRecordSetsResponse>"
            return answer.encode()
        if request.action == "CreateHealthCheck":
            for one in self._backend().health_checks:
                self._alarms.setdefault(one, _alarm_in(request.body))  # moto forgets it
            self._health |= {one: self._is_well(check) for one, check in self._backend().health_checks.items()}
        if request.action in FLAG_ACTIONS:
            now = {one: self._is_well(check) for one, check in self._backend().health_checks.items()}
            self.cloud.later(self.cloud.durations.health, lambda: self._health.update(now))
        return content

    def _publish_zone(self, zone: str) -> Any:
        records = list(self._backend().zones[zone].rrsets)
        return lambda: self._spread.update({zone: records})

    # ------------------------------------------------------------------------------------------------

    def _chosen(self, found: list[Any]) -> Any:
        if found[0].failover:
            well = {one.failover: self._health.get(one.health_check_id, True) for one in found}
            side = "PRIMARY" if well.get("PRIMARY", True) or not well.get("SECONDARY", True) else "SECONDARY"
            return next(one for one in found if one.failover == side)
        if found[0].weight is not None:
            weights = [int(one.weight) for one in found]
            return self._random.choices(found, weights if any(weights) else [1] * len(found))[0]
        return found[0]

    def _is_well(self, check: Any) -> bool:
        """What Route 53's checkers find: an object that exists, an alarm that is not one."""
        well = True
        if check.type_ == "CLOUDWATCH_METRIC":
            alarm = self._alarms[check.id]
            found = get_backend("cloudwatch")[ACCOUNT][alarm["Region"]].alarms.get(alarm["Name"])
            well = found is None or found.state_value != "ALARM"
        elif check.fqdn and ".s3." in check.fqdn:
            bucket = get_backend("s3")[ACCOUNT]["aws"].buckets.get(check.fqdn.partition(".s3.")[0])
            well = bucket is not None and check.resource_path.lstrip("/") in bucket.keys
        return well != (str(check.inverted).lower() == "true")

    @staticmethod
    def _backend() -> Any:
        return get_backend("route53")[ACCOUNT]["aws"]


def _zone_of(request: Request) -> str:
    found = re.search(r"/hostedzone/([^/]+)/", request.path)
    return found[1] if found else ""


def _info(change: str, status: str) -> str:
    return (
        f"<ChangeInfo><Id>/change/{change}</Id><Status>{status}</Status>"
        "<SubmittedAt>2026-11-28T00:00:00Z</SubmittedAt></ChangeInfo>"
    )


def _values(record: Any) -> list[str]:
    if record.alias_target:
        return [str(record.alias_target["DNSName"]).rstrip(".")]
    return [str(value) for value in record.records]


def _alarm_in(body: bytes) -> dict[str, str]:
    """The alarm that a new health check follows."""
    found = {}
    for one in ET.fromstring(body).iter():
        if one.tag.endswith("}AlarmIdentifier"):
            found = {child.tag.rpartition("}")[2]: child.text or "" for child in one}
    return found
