"""A company in two regions of the simulated cloud, its recovery plan, and its kit run as a real process."""

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

from backups.disaster.kit.bundle import make_kit
from backups.disaster.kit.script.journal import Entry, entries_of
from backups.models import RecoveryPlan
from environments.models import Environment, Placement, Service
from tests.aws.layer import Layer
from tests.aws.site import Site

EAST, WEST = "us-east-1", "us-west-2"
SERVICE, CLUSTERS = "pitchey-backend", {EAST: "pitchey-production", WEST: "pitchey-dr"}
SNAPSHOT = "pitchey-2026-11-28"
NAME = "api.pitchey.com"
ANSWERS = ["dr", "Alice saw the region's status page", "1"]
OLD, NEW = "203.0.113.10", "198.51.100.20"
POLL = "0.02"


@dataclass
class World:
    """The cloud, the plan, and the sites that answer for both sides."""

    aws: Layer
    old_site: Site
    new_site: Site
    folder: Path
    plan: RecoveryPlan = field(init=False)
    zone: str = ""
    fence: str = "stop"

    def client(self, service: str, region: str) -> Any:
        make: Any = boto3.client
        return make(
            service, region_name=region, endpoint_url=self.aws.url, aws_access_key_id="a", aws_secret_access_key="b"
        )

    def build(self) -> "World":
        """Production in the east with its database; the west waits with no task, and a snapshot of an hour ago."""
        for region, count in ((EAST, 3), (WEST, 0)):
            ecs = self.client("ecs", region)
            ecs.create_cluster(clusterName=CLUSTERS[region])
            containers = [{"name": SERVICE, "image": "pitchey-backend:1.4.0", "memory": 512}]
            ecs.register_task_definition(family=SERVICE, containerDefinitions=containers)
            ecs.create_service(
                cluster=CLUSTERS[region], serviceName=SERVICE, taskDefinition=SERVICE, desiredCount=count
            )
        self.client("rds", EAST).create_db_instance(
            DBInstanceIdentifier="pitchey", DBInstanceClass="db.t3.medium", Engine="postgres", AllocatedStorage=20,
            MasterUsername="pitchey", MasterUserPassword="a-password-1",
        )  # fmt: skip
        self.copy_snapshot(SNAPSHOT)
        self.zone = (
            self.client("route53", EAST)
            .create_hosted_zone(Name="pitchey.com", CallerReference="1")["HostedZone"]["Id"]
            .rpartition("/")[2]
        )
        changes = [{"Action": "UPSERT", "ResourceRecordSet": record(OLD)}]
        self.client("route53", EAST).change_resource_record_sets(
            HostedZoneId=self.zone, ChangeBatch={"Changes": changes}
        )
        self.plan = self.rows()
        self.aws.taken.clear()
        self.aws.asked.clear()
        return self

    def copy_snapshot(self, name: str) -> None:
        """A snapshot of production, and its copy in the west."""
        self.client("rds", EAST).create_db_snapshot(DBInstanceIdentifier="pitchey", DBSnapshotIdentifier=name)
        source = f"arn:aws:rds:{EAST}:123456789012:snapshot:{name}"
        self.client("rds", WEST).copy_db_snapshot(
            SourceDBSnapshotIdentifier=source, TargetDBSnapshotIdentifier=name, SourceRegion=EAST
        )

    def rows(self) -> RecoveryPlan:
        service = Service.objects.create(slug=SERVICE, name="Backend")
        sides = []
        for slug, region, site in (("production", EAST, self.old_site), ("dr", WEST, self.new_site)):
            environment = Environment.objects.create(
                slug=slug, name=slug.title(), url=site.url, driver="ecs",
                driver_settings={"cluster": CLUSTERS[region], **self.account(region)},
            )  # fmt: skip
            Placement.objects.create(environment=environment, service=service, instances=[{"name": SERVICE}])
            sides.append(environment)
        return RecoveryPlan.objects.create(
            slug="pitchey", name="Pitchey", primary=sides[0], standby=sides[1], services={SERVICE: 3},
            database=self.database(), traffic=self.traffic(), tell=["Platform on-call, +1 555 0100"],
            checks=[{"name": "there are users", "sql": "SELECT count(*) > 0 FROM users"}],
        )  # fmt: skip

    def account(self, region: str) -> dict[str, Any]:
        return {
            "region": region,
            "endpoint_url": self.aws.url,
            "access_key": "env:TEST_AWS_ACCESS_KEY",
            "secret_key": "env:TEST_AWS_SECRET_KEY",
        }

    def database(self) -> dict[str, Any]:
        return {
            "kind": "rds",
            "security_groups": ["sg-open"],
            "fenced_security_groups": ["sg-shut"],
            "primary": {**self.account(EAST), "instance": "pitchey", "fence": self.fence},
            "standby": {**self.account(WEST), "instance": "pitchey-dr"},
        }

    def traffic(self) -> dict[str, Any]:
        return {
            "kind": "route53",
            "zone": self.zone,
            "url": f"{self.new_site.url}/health",
            "names": [NAME],
            "endpoint_url": self.aws.url,
            "access_key": "env:TEST_AWS_ACCESS_KEY",
            "secret_key": "env:TEST_AWS_SECRET_KEY",
            "primary": {"values": [OLD]},
            "standby": {"values": [NEW]},
        }

    # --- the kit ------------------------------------------------------------------------------------

    def unpack(self) -> Path:
        """The plan's kit, as somebody fetched it: a folder."""
        kit = make_kit(self.plan, datetime.now(UTC))
        with tarfile.open(fileobj=io.BytesIO(kit.content)) as tar:
            tar.extractall(self.folder, filter="data")
        return self.folder / kit.name.removesuffix(".tar.gz")

    def start(
        self, kit: Path, *options: str, script: tuple[str, ...] = ("recover.py",), answer_seconds: str = "20"
    ) -> subprocess.Popen[str]:
        """Start the kit's script, with nothing of this project within its reach."""
        kept = ("PATH", "TEST_AWS_ACCESS_KEY", "TEST_AWS_SECRET_KEY", "AWS_CONFIG_FILE", "AWS_EC2_METADATA_DISABLED",
                "AWS_SHARED_CREDENTIALS_FILE")  # fmt: skip
        command = [sys.executable, "-I", *script, "--seconds", POLL, "--name", "Alice", *options]
        variables = {name: os.environ[name] for name in kept if name in os.environ}
        variables["RECOVER_ANSWER_SECONDS"] = answer_seconds
        return subprocess.Popen(
            command, cwd=kit, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def run(
        self, kit: Path, *options: str, answers: list[str] | None = None, answer_seconds: str = "20"
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, with these answers."""
        process = self.start(kit, *options, answer_seconds=answer_seconds)
        said, _ = process.communicate("".join(f"{one}\n" for one in (ANSWERS if answers is None else answers)), 50)
        return subprocess.CompletedProcess(process.args, process.returncode, said)

    # --- what came of it ----------------------------------------------------------------------------

    def desired(self, region: str) -> int:
        """How many tasks are wanted there."""
        return self.aws.cloud.ecs(region).services[CLUSTERS[region], SERVICE].desired

    def address(self) -> list[str]:
        """What DNS says."""
        return self.aws.cloud.names.lookup(NAME)


def record(address: str) -> dict[str, Any]:
    """The public record, with this address."""
    return {"Name": NAME, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": address}]}


def journal(kit: Path) -> list[Entry]:
    """What the run wrote, checked."""
    return entries_of((kit / "journal.jsonl").read_bytes())
