"""The way to a failover and home: what one reads before, nothing typed is lost, and what cannot be asked for."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.models import Operation
from environments.models import EnvironmentLock
from tests.disaster.paper import PRIMARY, plan, world
from tests.disaster.runs import asked
from tests.disaster.test_pages_overview import BYTES, QUERIES, get

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
FAILOVER, FAILBACK, DRILL, CHANGE = (f"/recovery/main/{one}" for one in ("failover", "failback", "drill", "change"))
SAID = {"point": "replica", "words": "all probes are red", "reason": "region down", "confirm": "Production"}


def post(client: Client, person: Person, path: str, said: Mapping[str, Any]) -> Any:
    client.force_login(person)
    return client.post(path, said)


class TestAFailover:
    def test_the_restore_points_with_what_would_be_lost(
        self, client: Client, plan: RecoveryPlan, alice: Person, bob: Person
    ) -> None:
        world.newest["old snapshot"] = timezone.now() - timedelta(hours=3)
        said = get(client, alice, FAILOVER)
        assert said.index("the replica") < said.index("the snapshot") < said.index("the old snapshot")
        assert '<span class="state bad">3\N{NO-BREAK SPACE}h' in said, "more than may be lost"
        assert "2 others have to approve it" in said and "Bob can" in said
        assert "restore dr" in said and "stop production" in said, "the plan"
        assert 'name="point" value="replica"' in said

    def test_another_point_by_its_link(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        said = get(client, alice, f"{FAILOVER}?point=snapshot")
        assert 'name="point" value="snapshot"' in said
        assert "There is no plan" not in said

    def test_another_point_by_its_button_keeps_what_was_typed(
        self, client: Client, plan: RecoveryPlan, alice: Person
    ) -> None:
        answer = post(client, alice, FAILOVER, {**SAID, "confirm": "", "look": "snapshot"})
        said = answer.content.decode()
        assert answer.status_code == 200
        assert 'name="point" value="snapshot"' in said and "all probes are red" in said
        assert "This field is required" not in said
        assert not Operation.objects.exists()

    def test_it_is_asked_for_and_its_page_follows(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        answer = post(client, alice, FAILOVER, SAID)
        operation = Operation.objects.get()
        assert (answer.status_code, answer.headers["Location"]) == (302, f"/recovery/runs/{operation.pk}")
        recovery = Recovery.objects.get()
        assert (recovery.kind, recovery.point["key"], operation.reason) == ("failover", "replica", "region down")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"words": ""}, "This field is required"),
            ({"reason": ""}, "This field is required"),
            ({"confirm": "staging"}, "type its name"),
            ({"incident": "many"}, "Enter a whole number"),
            ({"incident": "77"}, "There is no incident 77"),
            ({"point": "gone"}, "gone is not there any more"),
        ],
    )
    def test_what_is_wrong_is_said_and_nothing_typed_is_lost(
        self, client: Client, plan: RecoveryPlan, alice: Person, change: dict[str, str], words: str
    ) -> None:
        answer = post(client, alice, FAILOVER, {**SAID, "reason": "the whole region is dark", **change})
        said = answer.content.decode()
        assert answer.status_code == 422
        assert words in said
        assert "reason" in change or "the whole region is dark" in said
        assert not Operation.objects.exists()

    def test_nothing_to_restore_from_says_so(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        world.away, world.newest = {PRIMARY}, {}
        said = get(client, alice, FAILOVER)
        assert "production cannot be reached" in said and "Ask for the failover" not in said

    def test_a_lock_forbids_it_and_says_who_can_lift_it(
        self, client: Client, plan: RecoveryPlan, alice: Person
    ) -> None:
        EnvironmentLock.objects.create(environment=plan.primary, reason="an audit", author_name="Ada")
        said = get(client, alice, FAILOVER)
        assert "locked by Ada: an audit" in said and "Ask for the failover" not in said
        assert post(client, alice, FAILOVER, SAID).status_code == 422

    def test_a_second_one_is_a_conflict(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        asked(alice, plan)
        answer = post(client, alice, FAILOVER, SAID)
        assert answer.status_code == 409
        assert "on its way already" in answer.content.decode()

    def test_the_price_of_the_page(
        self, client: Client, plan: RecoveryPlan, alice: Person, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        now = timezone.now()
        world.newest |= {f"snapshot {number}": now - timedelta(hours=number) for number in range(300)}
        client.force_login(alice)
        with django_assert_max_num_queries(QUERIES):
            answer = client.get(FAILOVER)
        assert answer.status_code == 200
        assert len(answer.content) < BYTES


class TestTheWayHome:
    def test_there_is_none_while_people_are_at_home(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        said = get(client, alice, FAILBACK)
        assert "serves people already" in said and "Ask to bring it home" not in said

    def test_it_is_asked_for(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        RecoveryPlan.objects.update(active="standby")
        assert "Type dr to show" in get(client, alice, FAILBACK)
        answer = post(client, alice, FAILBACK, {"words": "the region is back", "reason": "home", "confirm": "dr"})
        assert answer.headers["Location"] == f"/recovery/runs/{Operation.objects.get().pk}"


class TestADrill:
    def test_it_starts_at_once(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        answer = post(client, alice, DRILL, {"reason": "monthly", "faults": ["worker-dies"]})
        assert answer.headers["Location"] == f"/recovery/runs/{Operation.objects.get().pk}"
        assert Recovery.objects.get().faults == ["worker-dies"]
        assert Operation.objects.get().state == "queued"

    @pytest.mark.parametrize("said", [{"reason": ""}, {"reason": "x", "faults": ["earthquake"]}])
    def test_what_is_wrong_is_said_on_the_page(
        self, client: Client, plan: RecoveryPlan, alice: Person, said: dict[str, Any]
    ) -> None:
        answer = post(client, alice, DRILL, said)
        assert answer.status_code == 422
        assert '<ul class="error">' in answer.content.decode()
        assert not Operation.objects.exists()

    def test_not_while_another_one_is_on_its_way(self, client: Client, plan: RecoveryPlan, alice: Person) -> None:
        asked(alice, plan)
        answer = post(client, alice, DRILL, {"reason": "x"})
        assert answer.status_code == 409
        assert "on its way already" in answer.content.decode()


class TestTheEditor:
    GOOD = {
        "name": "Production to DR", "rto_minutes": "240", "rpo_minutes": "60", "approvals_required": "2",
        "services": "api 3", "checks": "", "tell": "", "drill_schedule": "0 9 1 * *", "drill_time_zone": "UTC",
        "database": '{"kind": "paper"}', "traffic": '{"kind": "paper"}', "uploads": "", "configuration": "",
        "reason": "OPS-1",
    }  # fmt: skip

    def test_it_changes_what_is_different_and_says_so_in_the_audit(
        self, client: Client, plan: RecoveryPlan, ada: Person
    ) -> None:
        said = {**self.GOOD, "rto_minutes": "120", "services": "api = 5", "tell": "slack\nemail",
                "checks": "there are users: SELECT count(*) > 0 FROM users"}  # fmt: skip
        assert post(client, ada, CHANGE, said).status_code == 302
        plan.refresh_from_db()
        assert (plan.rto_seconds, plan.services, plan.tell) == (7200, {"api": 5}, ["slack", "email"])
        assert plan.checks == [{"name": "there are users", "sql": "SELECT count(*) > 0 FROM users"}]
        entry = Entry.objects.get(action="recovery_plan.changed")
        assert set(entry.data["changes"]) == {"rto_seconds", "services", "tell", "checks"}

    def test_what_it_shows_is_what_it_takes(self, client: Client, plan: RecoveryPlan, ada: Person) -> None:
        answer = post(client, ada, CHANGE, self.GOOD)
        assert answer.status_code == 409
        assert "Nothing is different" in answer.content.decode()

    def test_a_promise_of_seconds_is_not_rounded_by_another_change(
        self, client: Client, plan: RecoveryPlan, ada: Person
    ) -> None:
        RecoveryPlan.objects.update(rpo_seconds=95)
        assert post(client, ada, CHANGE, {**self.GOOD, "rpo_minutes": "2", "name": "Other"}).status_code == 302
        plan.refresh_from_db()
        assert (plan.name, plan.rpo_seconds) == ("Other", 95)

    def test_the_settings_of_a_real_driver_are_checked_by_it(
        self, client: Client, plan: RecoveryPlan, ada: Person
    ) -> None:
        named = {**self.GOOD, "traffic": '{"kind": "local", "name": "api.pitchey.com"}'}
        assert post(client, ada, CHANGE, named).status_code == 302
        answer = post(client, ada, CHANGE, {**self.GOOD, "traffic": '{"kind": "local", "speed": 9}'})
        assert answer.status_code == 422
        said = answer.content.decode()
        assert "speed: is no setting of it" in said and "name: is missing" in said

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"database": "{"}, "Enter a valid JSON"),
            ({"database": "[1]"}, "Write an object"),
            ({"database": ""}, "has to be one of"),
            ({"database": '{"kind": "stone"}'}, "has to be one of: "),
            ({"database": '{"kind": []}'}, "has to be one of: "),
            ({"traffic": '{"kind": "paper", "ttl": NaN}'}, "cannot be kept"),
            ({"traffic": '{"kind": "paper", "a": "\\u0000"}'}, "NUL"),
            ({"traffic": '{"kind": "paper", "a": "\\ud800"}'}, "cannot be kept"),
            ({"traffic": "[" * 50_000}, "cannot be kept"),
            ({"traffic": '{"a": ' + "9" * 5000 + "}"}, "cannot be kept"),
            ({"configuration": '{"A": 1}'}, "give each variable a text"),
            ({"services": "ghost 3"}, "has no place in production"),
            ({"services": "api many"}, "how many of it"),
            ({"services": "api 3\napi 4"}, "stands there twice"),
            ({"checks": "no question"}, "a name, a colon"),
            ({"drill_schedule": "often"}, "is no schedule"),
            ({"drill_time_zone": "Mars/North"}, "is no time zone"),
            ({"rto_minutes": "0"}, "greater than or equal to 1"),
            ({"reason": ""}, "This field is required"),
        ],
    )
    def test_what_cannot_be_is_said_beside_its_field(
        self, client: Client, plan: RecoveryPlan, ada: Person, change: dict[str, str], words: str
    ) -> None:
        answer = post(client, ada, CHANGE, {**self.GOOD, **change})
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert not Entry.objects.filter(action="recovery_plan.changed").exists()
