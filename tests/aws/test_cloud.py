"""The simulated cloud over virtual time: it takes as long as AWS does, forbids what AWS forbids, and breaks as told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.aws.layer import LOST_AFTER, Layer, refused, throttled

pytest_plugins = ["tests.aws.fixtures"]

EAST, WEST = "us-east-1", "us-west-2"


def client(aws: Layer, service: str, region: str = EAST, url: str = "") -> Any:
    """One that asks once."""
    once = Config(retries={"total_max_attempts": 1}, read_timeout=5)
    make: Any = boto3.client  # the stubs want the service's name written out
    return make(
        service, region_name=region, endpoint_url=url or aws.url, config=once,
        aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip


@pytest.fixture
def east(aws: Layer) -> Any:
    """RDS in us-east-1, with the company's database and a snapshot that is half an hour old; time counts."""
    rds = client(aws, "rds")
    rds.create_db_instance(
        DBInstanceIdentifier="pitchey", DBInstanceClass="db.r5.2xlarge", Engine="postgres",
        MasterUsername="prod", MasterUserPassword="very-secret", AllocatedStorage=500,
    )  # fmt: skip
    aws.cloud.rds.automated_snapshot(EAST, "pitchey", "rds:pitchey-1", age=1800)
    aws.cloud.start()
    return rds


def status(rds: Any, name: str) -> str:
    return str(rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DBInstanceStatus"])


def restore(rds: Any, snapshot: str, name: str = "pitchey-dr") -> None:
    rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=snapshot)


class TestDatabases:
    """RDS."""

    def test_a_restore_takes_twenty_minutes(self, aws: Layer, east: Any) -> None:
        restore(east, "rds:pitchey-1")
        assert status(east, "pitchey-dr") == "creating"
        aws.cloud.advance(1199)
        assert status(east, "pitchey-dr") == "creating"
        aws.cloud.advance(1)
        assert status(east, "pitchey-dr") == "available"

    def test_the_clock_can_run_by_itself(self, aws: Layer, east: Any) -> None:
        aws.cloud.start(speed=100_000)
        before = aws.cloud.clock.now()
        restore(east, "rds:pitchey-1")
        while status(east, "pitchey-dr") != "available":
            pass
        assert aws.cloud.clock.now() - before >= timedelta(seconds=1200)

    def test_a_copy_into_another_region_can_be_restored_once_it_is_there(self, aws: Layer, east: Any) -> None:
        west = client(aws, "rds", WEST)
        found = east.describe_db_snapshots()["DBSnapshots"][0]
        west.copy_db_snapshot(
            SourceDBSnapshotIdentifier=found["DBSnapshotArn"], TargetDBSnapshotIdentifier="copied", SourceRegion=EAST
        )
        with pytest.raises(ClientError, match="InvalidDBSnapshotState"):
            restore(west, "copied")
        aws.cloud.advance(900)
        restore(west, "copied")
        copied = west.describe_db_snapshots(DBSnapshotIdentifier="copied")["DBSnapshots"][0]
        assert copied["OriginalSnapshotCreateTime"] == found["OriginalSnapshotCreateTime"]

    def test_a_replica_is_promoted(self, aws: Layer, east: Any) -> None:
        west = client(aws, "rds", WEST)
        arn = east.describe_db_instances()["DBInstances"][0]["DBInstanceArn"]
        west.create_db_instance_read_replica(DBInstanceIdentifier="standby", SourceDBInstanceIdentifier=arn)
        with pytest.raises(ClientError, match="InvalidDBInstanceState"):
            west.promote_read_replica(DBInstanceIdentifier="standby")
        aws.cloud.advance(1200)
        west.promote_read_replica(DBInstanceIdentifier="standby")
        assert status(west, "standby") == "modifying"
        aws.cloud.advance(300)
        (one,) = west.describe_db_instances()["DBInstances"]
        assert one["DBInstanceStatus"] == "available" and not one.get("ReadReplicaSourceDBInstanceIdentifier")
        with pytest.raises(ClientError, match="not a read replica"):
            west.promote_read_replica(DBInstanceIdentifier="standby")

    def test_a_deleted_one_is_seen_for_a_while(self, aws: Layer, east: Any) -> None:
        east.delete_db_instance(DBInstanceIdentifier="pitchey", SkipFinalSnapshot=True)
        assert status(east, "pitchey") == "deleting"
        aws.cloud.advance(120)
        with pytest.raises(ClientError, match="DBInstanceNotFound"):
            status(east, "pitchey")

    def test_the_quota_is_reached(self, aws: Layer, east: Any) -> None:
        aws.cloud.quotas["rds", "instances"] = 1
        with pytest.raises(ClientError, match="InstanceQuotaExceeded"):
            restore(east, "rds:pitchey-1")

    def test_replicated_backups_restore_in_the_other_region(self, aws: Layer, east: Any) -> None:
        aws.cloud.rds.replicated[WEST, "pitchey"] = datetime(2026, 11, 28, 3, tzinfo=UTC)
        west = client(aws, "rds", WEST)
        (backups,) = west.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"]
        assert backups["RestoreWindow"]["LatestTime"] == datetime(2026, 11, 28, 3, tzinfo=UTC)
        west.restore_db_instance_to_point_in_time(
            SourceDBInstanceAutomatedBackupsArn=backups["DBInstanceAutomatedBackupsArn"],
            TargetDBInstanceIdentifier="pitchey-dr", UseLatestRestorableTime=True,
        )  # fmt: skip
        assert status(west, "pitchey-dr") == "creating"
        assert aws.changes == {"RestoreDBInstanceToPointInTime": 1}

    def test_a_restart_leaves_an_event(self, aws: Layer, east: Any) -> None:
        east.reboot_db_instance(DBInstanceIdentifier="pitchey")
        asked = {"SourceIdentifier": "pitchey", "SourceType": "db-instance"}
        assert east.describe_events(**asked)["Events"] == []
        aws.cloud.advance(30)
        assert "restarted" in east.describe_events(**asked)["Events"][0]["Message"]


class TestPlaces:
    """Regions that cannot be reached."""

    def test_one_region_is_cut_and_mended(self, aws: Layer, east: Any) -> None:
        aws.cloud.cut(EAST)
        with pytest.raises(ConnectionClosedError):
            status(east, "pitchey")
        assert client(aws, "rds", WEST).describe_db_instances()["DBInstances"] == []
        aws.cloud.mend(EAST)
        assert status(east, "pitchey") == "available"

    def test_its_own_endpoint_refuses(self, aws: Layer, east: Any) -> None:
        url = aws.cloud.endpoint(EAST)
        rds = client(aws, "rds", EAST, url)
        assert status(rds, "pitchey") == "available"
        aws.cloud.cut(EAST)
        with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
            status(rds, "pitchey")
        with pytest.raises(EndpointConnectionError):
            status(client(aws, "rds", EAST, url), "pitchey")
        aws.cloud.mend(EAST)
        assert aws.cloud.endpoint(EAST) == url
        assert status(rds, "pitchey") == "available"

    def test_it_hangs(self, aws: Layer, east: Any) -> None:
        aws.cloud.cut(EAST, "hangs")
        impatient = boto3.client(
            "rds", region_name=EAST, endpoint_url=aws.url, aws_access_key_id="a", aws_secret_access_key="b",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=0.2),
        )  # fmt: skip
        with pytest.raises(ReadTimeoutError):
            status(impatient, "pitchey")

    def test_one_call_is_lost_after_it_was_taken(self, aws: Layer, east: Any) -> None:
        aws.will("RestoreDBInstanceFromDBSnapshot", LOST_AFTER)
        with pytest.raises(ConnectionClosedError):
            restore(east, "rds:pitchey-1")
        assert status(east, "pitchey-dr") == "creating"
        aws.will("DescribeDBInstances", throttled(), region=WEST)
        assert status(east, "pitchey") == "available"
        with pytest.raises(ClientError, match="ThrottlingException"):
            client(aws, "rds", WEST).describe_db_instances()


@pytest.fixture
def zone(aws: Layer) -> str:
    """The company's zone; time counts."""
    identity = client(aws, "route53").create_hosted_zone(Name="pitchey.com", CallerReference="1")["HostedZone"]["Id"]
    aws.cloud.start()
    return str(identity).rpartition("/")[2]


def upsert(aws: Layer, zone: str, *records: dict[str, Any]) -> str:
    changes = [{"Action": "UPSERT", "ResourceRecordSet": one} for one in records]
    answer = client(aws, "route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    return str(answer["ChangeInfo"]["Id"])


def record(value: str, **more: Any) -> dict[str, Any]:
    return {"Name": "api.pitchey.com", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": value}], **more}


class TestNames:
    """Route 53 and what resolvers get."""

    def test_a_change_spreads_in_a_minute(self, aws: Layer, zone: str) -> None:
        route53 = client(aws, "route53")
        change = upsert(aws, zone, record("192.0.2.1"))
        assert route53.get_change(Id=change)["ChangeInfo"]["Status"] == "PENDING"
        assert aws.cloud.names.lookup("api.pitchey.com") == []
        aws.cloud.advance(60)
        assert route53.get_change(Id=change)["ChangeInfo"]["Status"] == "INSYNC"
        assert aws.cloud.names.lookup("api.pitchey.com") == ["192.0.2.1"]
        answer = route53.test_dns_answer(HostedZoneId=zone, RecordName="api.pitchey.com", RecordType="A")
        assert answer["RecordData"] == ["192.0.2.1"] and answer["ResponseCode"] == "NOERROR"

    def test_weights(self, aws: Layer, zone: str) -> None:
        upsert(
            aws, zone,
            record("192.0.2.1", SetIdentifier="a", Weight=0), record("192.0.2.2", SetIdentifier="b", Weight=100),
        )  # fmt: skip
        aws.cloud.advance(60)
        assert {aws.cloud.names.lookup("api.pitchey.com")[0] for _ in range(20)} == {"192.0.2.2"}

    def test_without_its_control_plane_names_are_answered_all_the_same(self, aws: Layer, zone: str) -> None:
        upsert(aws, zone, record("192.0.2.1"))
        aws.cloud.advance(60)
        aws.cloud.cut("route53")
        with pytest.raises(ConnectionClosedError):
            upsert(aws, zone, record("192.0.2.2"))
        assert aws.cloud.names.lookup("api.pitchey.com") == ["192.0.2.1"]

    def test_a_health_check_follows_an_object(self, aws: Layer, zone: str) -> None:
        s3 = client(aws, "s3", WEST)
        s3.create_bucket(Bucket="flags", CreateBucketConfiguration={"LocationConstraint": WEST})
        self.fail_over_by(
            aws, zone,
            {"Type": "HTTPS", "FullyQualifiedDomainName": f"flags.s3.{WEST}.amazonaws.com",
             "ResourcePath": "/failover", "Inverted": True},
        )  # fmt: skip
        aws.cloud.cut("route53")
        s3.put_object(Bucket="flags", Key="failover", Body=b"yes")
        assert aws.cloud.names.lookup("api.pitchey.com") == ["192.0.2.1"]
        aws.cloud.advance(30)
        assert aws.cloud.names.lookup("api.pitchey.com") == ["192.0.2.2"]
        assert s3.head_object(Bucket="flags", Key="failover")["ContentLength"] == 3
        s3.delete_object(Bucket="flags", Key="failover")
        aws.cloud.advance(30)
        assert aws.cloud.names.lookup("api.pitchey.com") == ["192.0.2.1"]

    def test_a_health_check_follows_an_alarm(self, aws: Layer, zone: str) -> None:
        cloudwatch = client(aws, "cloudwatch", WEST)
        cloudwatch.put_metric_alarm(
            AlarmName="failover", ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1, MetricName="failover",
            Namespace="pitchey", Period=60, Threshold=0.5, Statistic="Maximum", TreatMissingData="ignore",
        )  # fmt: skip
        self.fail_over_by(
            aws, zone, {"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": WEST, "Name": "failover"}}
        )
        cloudwatch.set_alarm_state(AlarmName="failover", StateValue="ALARM", StateReason="because")
        aws.cloud.advance(30)
        assert aws.cloud.names.lookup("api.pitchey.com") == ["192.0.2.2"]

    def fail_over_by(self, aws: Layer, zone: str, check: dict[str, Any]) -> None:
        """A failover pair of records; the first one's health check is this one."""
        made = client(aws, "route53").create_health_check(CallerReference="1", HealthCheckConfig=check)
        health = made["HealthCheck"]["Id"]
        upsert(
            aws, zone,
            record("192.0.2.1", SetIdentifier="a", Failover="PRIMARY", HealthCheckId=health),
            record("192.0.2.2", SetIdentifier="b", Failover="SECONDARY"),
        )  # fmt: skip
        aws.cloud.advance(60)
        assert aws.cloud.names.lookup("api.pitchey.com") == ["192.0.2.1"]


def test_tasks_take_their_time_to_start_and_to_stop(aws: Layer) -> None:
    ecs = client(aws, "ecs", WEST)
    ecs.create_cluster(clusterName="dr")
    ecs.register_task_definition(family="api", containerDefinitions=[{"name": "api", "image": "api:1", "memory": 128}])
    ecs.create_service(cluster="dr", serviceName="api", taskDefinition="api:1", desiredCount=0)
    aws.cloud.start()

    def counts() -> tuple[int, int, int]:
        (one,) = ecs.describe_services(cluster="dr", services=["api"])["services"]
        going = [
            task
            for arn in ecs.list_tasks(cluster="dr", serviceName="api", desiredStatus="STOPPED")["taskArns"]
            for task in ecs.describe_tasks(cluster="dr", tasks=[arn])["tasks"]
            if task["lastStatus"] != "STOPPED"
        ]
        return one["runningCount"], one["pendingCount"], len(going)

    aws.cloud.ecs(WEST).blocked = "no capacity"
    ecs.update_service(cluster="dr", service="api", desiredCount=3)
    aws.cloud.advance(900)
    assert counts() == (0, 3, 0)
    assert "no capacity" in ecs.describe_services(cluster="dr", services=["api"])["services"][0]["events"][0]["message"]
    aws.cloud.ecs(WEST).blocked = ""
    assert counts() == (3, 0, 0)
    ecs.update_service(cluster="dr", service="api", desiredCount=0)
    assert counts() == (0, 0, 3)
    aws.cloud.advance(60)
    assert counts() == (0, 0, 0)


def test_what_is_allowed_and_how_much(aws: Layer) -> None:
    aws.cloud.denied.add("rds:CopyDBSnapshot")
    actions = ["rds:CopyDBSnapshot", "rds:DescribeDBInstances"]
    arn = client(aws, "sts").get_caller_identity()["Arn"]
    answer = client(aws, "iam").simulate_principal_policy(PolicySourceArn=arn, ActionNames=actions)
    assert [one["EvalDecision"] for one in answer["EvaluationResults"]] == ["implicitDeny", "allowed"]
    quota = client(aws, "service-quotas").get_service_quota(ServiceCode="fargate", QuotaCode="L-3032A538")["Quota"]
    assert quota["Value"] == 512
    limits = client(aws, "rds").describe_account_attributes()["AccountQuotas"]
    assert limits == [{"AccountQuotaName": "DBInstances", "Used": 0, "Max": 40}]


def test_how_far_a_replica_is_behind(aws: Layer, east: Any) -> None:
    west, metrics = client(aws, "rds", WEST), client(aws, "cloudwatch", WEST)
    arn = east.describe_db_instances()["DBInstances"][0]["DBInstanceArn"]
    west.create_db_instance_read_replica(DBInstanceIdentifier="standby", SourceDBInstanceIdentifier=arn)

    def lag() -> float:
        now = aws.cloud.clock.now()
        (point,) = metrics.get_metric_statistics(
            Namespace="AWS/RDS", MetricName="ReplicaLag", StartTime=now - timedelta(hours=1), EndTime=now, Period=60,
            Statistics=["Maximum"], Dimensions=[{"Name": "DBInstanceIdentifier", "Value": "standby"}],
        )["Datapoints"]  # fmt: skip
        return float(point["Maximum"])

    aws.cloud.rds.lags[WEST, "standby"] = 7.0
    assert lag() == 7.0
    aws.cloud.cut(EAST)
    aws.cloud.advance(600)
    assert 500 < lag() < 610


def test_a_refusal_is_in_the_language_of_the_service(aws: Layer) -> None:
    for service, call in (("rds", "describe_db_instances"), ("ecr", "describe_repositories"), ("s3", "list_buckets")):
        action = "ListObjectsV2" if service == "s3" else "".join(word.title() for word in call.split("_"))
        aws.will(action.replace("Db", "DB"), refused("Strange", "That & this."))
        with pytest.raises(ClientError, match=r"Strange.*That & this"):
            getattr(client(aws, service), call)()
