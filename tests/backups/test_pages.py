"""The pages of backups: what there is and what is missing, at a fixed price; nothing typed is lost."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups.alerts import raise_alert
from backups.cleaning import propose
from backups.models import Backup, BackupAlert, BackupRun, Kind, Policy, PolicyClock, Restore, RestorePoint, Storage
from backups.services import request_backup, request_cleanup, request_restore_point
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.models import Operation
from controlplane.operations.registry import kind_of
from controlplane.operations.states import State
from environments.models import Environment
from tests.backups.company import Make
from tests.backups.history import base, entries, entry, proven, wal

pytestmark = pytest.mark.django_db(transaction=True)
QUERIES = 20
BYTES = 100_000
DAY = timedelta(days=1)
PITR = {"kind": Kind.PITR, "settings": {"database": "env:NOWHERE"}}


def text(answer: Any) -> str:
    return str(answer.content.decode())


def get(client: Client, person: Person, path: str) -> str:
    client.force_login(person)
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return text(answer)


def point_of(*backups: Backup, **values: Any) -> RestorePoint:
    point = RestorePoint.objects.create(
        environment=Environment.objects.get(slug="production"), name="before 1.5.0", made_by_name="Alice", **values
    )
    point.backups.set(backups)
    return point


def alarm(policy: Policy, words: str, *, operation_id: int | None = None) -> None:
    with transaction.atomic():
        raise_alert(policy, BackupAlert.Kind.STALE, words, operation_id=operation_id)


class TestNothingThereYet:
    def test_the_overview_says_what_to_do(self, client: Client, alice: Person) -> None:
        assert "Nothing is backed up yet" in get(client, alice, "/backups")

    def test_the_catalog(self, client: Client, alice: Person) -> None:
        assert "There is no backup yet" in get(client, alice, "/backups/catalog")
        assert "No backup fits" in get(client, alice, "/backups/catalog?q=nothing")

    @pytest.mark.parametrize("values", [{}, PITR, {"kind": Kind.UPLOADS}, {"kind": Kind.IMAGES}])
    def test_a_policy_without_a_backup(
        self, client: Client, alice: Person, make_policy: Make, values: dict[str, Any]
    ) -> None:
        policy = make_policy("new", **values)
        said = get(client, alice, policy.get_absolute_url())
        assert "nothing to restore yet" in said and "No run yet" in said
        overview = get(client, alice, "/backups")
        assert "no database can be restored yet" in overview and "no backup yet" in overview

    def test_a_restore_point_whose_parts_are_not_there(self, client: Client, alice: Person, policy: Policy) -> None:
        said = get(client, alice, point_of().get_absolute_url())
        assert "has no part that can be restored in place" in said and "Ask for the restore" not in said


class TestTheOverview:
    def test_the_truth_at_a_glance(self, client: Client, alice: Person, make_policy: Make) -> None:
        policy = make_policy("database", kind=Kind.DATABASE)
        proven(policy, age=timedelta(hours=2), restore_seconds=540.0)
        entry(policy, age=timedelta(minutes=30))
        said = get(client, alice, "/backups")
        assert "restorable to" in said and "takes about <b>9\u00a0m" in said
        assert "RPO: would be lost now" in said and "RTO: a restore takes" in said
        assert "Back up now" in said and "Make a restore point" in said

    def test_an_alert_is_first(self, client: Client, alice: Person, policy: Policy) -> None:
        alarm(policy, "the last good backup is <old>", operation_id=7)
        said = get(client, alice, "/backups")
        assert "The last good backup is &lt;old&gt;" in said and "/operations/7" in said

    def test_a_window_with_a_gap(self, client: Client, alice: Person, make_policy: Make) -> None:
        policy, now = make_policy("cluster", **PITR), timezone.now()
        base(policy, age=3 * DAY, segment=10)
        base(policy, age=DAY, segment=60)
        wal(policy, (8, 40, now - 4 * DAY, now - 2 * DAY), (55, 99, now - DAY * 1.1, now))
        assert "but for 1 gap" in get(client, alice, "/backups")
        assert "but for 1 gap" in get(client, alice, policy.get_absolute_url())


class TestOne:
    def test_a_database(self, client: Client, alice: Person, make_policy: Make) -> None:
        policy = make_policy("database", kind=Kind.DATABASE)
        tables = [{"name": f"public.t{n}", "rows": n, "hash": "a" * 32, "bytes": n} for n in range(250)]
        backup = proven(policy, manifest={"facts": {"tables": tables}, "objects": []})
        point_of(backup)
        said = get(client, alice, backup.get_absolute_url())
        assert "250, counted and hashed" in said and "The largest 200" in said
        assert "all as it was" in said and "before 1.5.0" in said and "Hold it" in said

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"state": "deleted"}, "This entry stays as history"),
            ({"state": "damaged"}, "damaged"),
            ({"verdict": "failed", "verdict_words": "row 7 differs"}, "row 7 differs"),
            ({"hold_reason": "the audit", "held_by_name": "Carol"}, "Let go"),
            ({"policy": None}, "production/configuration"),
            ({"manifest": {}, "seconds": 0.0, "operation_id": None}, "Not tested yet"),
            ({"manifest": {"facts": {"weird": "<script>"}}}, "&lt;script&gt;"),
        ],
    )
    def test_whatever_became_of_it(
        self, client: Client, alice: Person, policy: Policy, values: dict[str, Any], words: str
    ) -> None:
        backup = entry(policy, **values)
        assert words in get(client, alice, backup.get_absolute_url())
        assert get(client, alice, f"/backups/catalog?state=all&kind={backup.kind}")

    @pytest.mark.parametrize("kind", Kind.values)
    def test_the_way_to_a_restore(self, client: Client, alice: Person, make_policy: Make, kind: str) -> None:
        backup = entry(make_policy("one", kind=kind), timeline=1, wal_end="0/1000028")
        path = f"/backups/{backup.pk}/restore"
        assert "What do you want back" in get(client, alice, path)
        answer = client.get(f"{path}?target=nonsense")
        assert answer.status_code == 422 and "Select a valid choice" in text(answer)

    @pytest.mark.parametrize(
        ("kind", "query", "words"),
        [
            ("database", "target=scratch&table=users", "table users"),
            ("database", "target=existing&database=shop", "put it in the place of shop"),
            ("uploads", "target=folder&folder=then", "the folder then"),
            ("uploads", "target=folder", "the folder in use"),
            ("images", "target=folder&folder=then", "the folder then"),
            ("configuration", "target=configuration", "set the variables as they were"),
        ],
    )
    def test_a_plan(  # noqa: PLR0917 (fixtures)
        self, client: Client, alice: Person, make_policy: Make, kind: str, query: str, words: str
    ) -> None:
        backup = entry(make_policy("one", kind=kind))
        said = get(client, alice, f"/backups/{backup.pk}/restore?{query}")
        assert words in said and "Ask for the restore" in said and not Operation.objects.exists()

    @pytest.mark.parametrize(
        ("kind", "query", "words"),
        [
            ("database", "target=new", "Give the name of a database"),
            ("database", "target=new&database=shop&table=a%20b", "is no name of a table"),
            ("pitr", "target=new&database=shop&moment=2020-01-01T00:00:00", "is not recoverable"),
            ("pitr", "target=new&database=shop&moment=soon", "Enter a valid date/time"),
            ("pitr", "target=scratch&moment=2020-01-01T12:00:00%2B10:00", "2020-01-01 02:00:00 UTC is not recoverable"),
            ("pitr", "target=scratch&moment=0001-01-01T00:00:00%2B14:00", "In UTC this moment is before the year 1"),
            ("uploads", "target=folder&folder=../up", "Give the folder a plain name"),
        ],
    )
    def test_a_wish_that_cannot_be_keeps_what_was_typed(  # noqa: PLR0917 (fixtures)
        self, client: Client, alice: Person, make_policy: Make, kind: str, query: str, words: str
    ) -> None:
        backup = entry(make_policy("one", kind=kind))
        client.force_login(alice)
        answer = client.get(f"/backups/{backup.pk}/restore?{query}")
        assert answer.status_code == 422 and words in text(answer)
        typed = query.rpartition("=")[2].replace("%20", " ").replace("%2B", "+")
        assert query.count("&") == 0 or f'value="{typed}"' in text(answer)


def test_a_moment_of_another_time_zone(client: Client, alice: Person, make_policy: Make) -> None:
    """Typed into the address: the plan is the one that the row gives back at the start."""
    policy = make_policy("cluster", kind=Kind.PITR)
    now = timezone.now()
    backup = base(policy, age=timedelta(days=1), segment=10)
    wal(policy, (8, 99, now - timedelta(days=2), now))
    client.force_login(alice)
    there = f"{(now + timedelta(hours=1)):%Y-%m-%dT%H:%M:%S}%2B02:00"
    path = f"/backups/{backup.pk}/restore?target=scratch&moment={there}"
    digest = client.get(path).context["draft"].plan.digest
    assert client.post(path, {"plan_digest": digest, "reason": "because"}).status_code == 302
    operation = Operation.objects.get()
    kind = kind_of(operation)
    assert kind.plan(operation, kind.facts(operation)).digest == operation.plan_digest == digest


class TestAsking:
    def test_a_backup_needs_one_click(self, client: Client, alice: Person, policy: Policy) -> None:
        client.force_login(alice)
        answer = client.post(f"{policy.get_absolute_url()}/run")
        operation = Operation.objects.get()
        assert answer.headers["Location"] == operation.get_absolute_url()
        assert "production/configuration" in get(client, alice, operation.get_absolute_url())

    def test_a_test(self, client: Client, alice: Person, policy: Policy) -> None:
        client.force_login(alice)
        assert client.post(f"/backups/{entry(policy).pk}/test").status_code == 302
        assert Restore.objects.get().target == Restore.Target.TEST
        deleted = entry(policy, state=Backup.State.DELETED)
        refused = client.post(f"/backups/{deleted.pk}/test")
        assert refused.status_code == 409 and "Choose another one" in text(refused)

    def test_a_restore(self, client: Client, alice: Person, policy: Policy) -> None:
        backup = entry(policy)
        path = f"/backups/{backup.pk}/restore?target=configuration"
        client.force_login(alice)
        digest = client.get(path).context["draft"].plan.digest
        form = {"plan_digest": digest, "reason": "OPS-214, it was better before", "confirm": "production"}
        for wrong, words in (
            ({"confirm": "staging"}, "This changes production: type its name."),
            ({"reason": " "}, "This field is required."),
            ({"plan_digest": ""}, ""),
        ):
            answer = client.post(path, {**form, **wrong})
            assert answer.status_code == 422 and words in text(answer)
            assert "reason" in wrong or "OPS-214, it was better before" in text(answer)
        moved = client.post(path, {**form, "plan_digest": "0" * 64})
        assert moved.status_code == 409 and "Read it again" in text(moved) and "OPS-214" in text(moved)
        assert not Operation.objects.exists()
        assert client.post(path, form).status_code == 302
        assert Operation.objects.get().state == State.AWAITING_APPROVAL

    def test_holding(self, client: Client, alice: Person, policy: Policy) -> None:
        path = f"/backups/{entry(policy).pk}/hold"
        client.force_login(alice)
        assert client.post(path, {"reason": " ", "what": "hold"}).status_code == 422
        assert client.post(path, {"reason": "the audit", "what": "hold"}).status_code == 302
        again = client.post(path, {"reason": "another audit", "what": "hold"})
        assert again.status_code == 409 and 'value="another audit"' in text(again)
        assert client.post(path, {"reason": "it is over", "what": "let go"}).status_code == 302
        assert client.post(path, {"reason": "it is over", "what": "let go"}).status_code == 409

    def test_pausing(self, client: Client, alice: Person, policy: Policy) -> None:
        path = f"{policy.get_absolute_url()}/pause"
        client.force_login(alice)
        assert client.post(path, {"what": "pause"}).status_code == 422
        assert client.post(path, {"reason": "it moves", "what": "pause"}).status_code == 302
        assert client.post(path, {"reason": "it moves", "what": "pause"}).status_code == 409
        assert "None while it is paused" in get(client, alice, policy.get_absolute_url())
        assert client.post(path, {"reason": "it moved", "what": "resume"}).status_code == 302

    def test_deleting_exactly_what_was_shown(self, client: Client, alice: Person, policy: Policy) -> None:
        path = f"{policy.get_absolute_url()}/clean"
        client.force_login(alice)
        nothing = client.post(path, {"shown": propose(policy).digest, "reason": "because"})
        assert nothing.status_code == 422 and "lets nothing go" in text(nothing)
        entry(policy, age=40 * DAY)
        entry(policy)
        shown = propose(policy).digest
        assert "Delete 1" in get(client, alice, policy.get_absolute_url())
        assert client.post(path, {"shown": shown, "reason": " "}).status_code == 422
        entry(policy, age=50 * DAY)
        changed = client.post(path, {"shown": shown, "reason": "because"})
        assert changed.status_code == 422 and "Look again" in text(changed)
        shown = propose(policy).digest
        assert client.post(path, {"shown": shown, "reason": "because"}).status_code == 302
        assert len(Operation.objects.get().cleanup.backups) == 2

    def test_a_restore_point(self, client: Client, alice: Person, policy: Policy) -> None:
        path = "/environments/production/restore-points"
        client.force_login(alice)
        answer = client.post(path, {"name": "", "reason": "OPS-214"})
        assert answer.status_code == 422 and 'value="OPS-214"' in text(answer)
        assert client.post(path, {"name": "before 1.5.0", "reason": "OPS-214"}).status_code == 302
        assert "before 1.5.0" in get(client, alice, Operation.objects.get().get_absolute_url())

    def test_restoring_a_point(self, client: Client, alice: Person, policy: Policy) -> None:
        point = point_of(entry(policy))
        client.force_login(alice)
        path = point.get_absolute_url()
        digest = client.get(path).context["plan"].digest
        form = {"plan_digest": digest, "reason": "OPS-214", "confirm": "production"}
        assert client.post(path, {**form, "confirm": ""}).status_code == 422
        moved = client.post(path, {**form, "plan_digest": "0" * 64})
        assert moved.status_code == 409 and "OPS-214" in text(moved)
        assert client.post(path, form).status_code == 302
        assert Operation.objects.get().plan_digest == digest


class TestChangingThePolicy:
    FORM = {
        "schedule": "0 2 * * *", "time_zone": "UTC", "rpo_seconds": 3600, "rto_seconds": 14400, "keep_days": 30,
        "keep_last": 0, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0, "proof": "never",
        "proof_schedule": "0 4 * * 0", "reason": "the guide says so",
    }  # fmt: skip

    def test_it_is_audited_and_the_clock_works_it_out_anew(self, client: Client, ada: Person, policy: Policy) -> None:
        PolicyClock.objects.update(due_at=timezone.now() + DAY)
        client.force_login(ada)
        form = {**self.FORM, "schedule": "30 1 * * *", "keep_days": "14"}
        assert client.post(f"{policy.get_absolute_url()}/change", form).status_code == 302
        policy.refresh_from_db()
        assert (policy.schedule, policy.keep_days, policy.clock.due_at) == ("30 1 * * *", 14, None)
        audited = Entry.objects.get(action="backup.policy_changed")
        assert audited.data == {"changes": {"schedule": ["0 2 * * *", "30 1 * * *"], "keep_days": [30, 14]}}
        assert audited.reason == "the guide says so"

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"schedule": "every day"}, "“every day” is no schedule"),
            ({"schedule": "0 0 30 2 *"}, "“0 0 30 2 *” "),
            ({"time_zone": "Berlin"}, "is no time zone"),
            ({"proof_schedule": ""}, ""),
            ({"keep_days": "-1"}, "greater than or equal to 0"),
            ({"keep_days": "1000000"}, "less than or equal to 36600"),
            ({"keep_yearly": "99999999999"}, "less than or equal to"),
            ({"rpo_seconds": "99999999999"}, "less than or equal to"),
            ({"proof": "sometimes"}, "Select a valid choice"),
            ({"keep_days": "14", "reason": " "}, "This field is required"),
            ({}, "Nothing is different."),
        ],
    )
    def test_mistakes_keep_what_was_typed(
        self, client: Client, ada: Person, policy: Policy, wrong: dict[str, str], words: str
    ) -> None:
        client.force_login(ada)
        answer = client.post(f"{policy.get_absolute_url()}/change", {**self.FORM, **wrong})
        assert answer.status_code == 422 and words in text(answer)
        for value in wrong.values():
            assert not value.strip() or value == "sometimes" or f'value="{value}"' in text(answer)
        assert not Entry.objects.filter(action="backup.policy_changed").exists()


class TestTheCatalog:
    @pytest.fixture
    def history(self, make_policy: Make) -> Policy:
        """A hundred and twenty of the configuration, one of the database."""
        entries(make_policy(), 120)
        proven(make_policy("database", kind=Kind.DATABASE), hold_reason="the audit of 2026", server_version="18.1")
        return Policy.objects.get(slug="database")

    def found(self, client: Client, **query: str) -> int:
        return text(client.get("/backups/catalog", query)).count('<tr><th scope="row">')

    def test_filters_and_words(self, client: Client, dana: Person, history: Policy) -> None:
        client.force_login(dana)
        today = f"{timezone.now():%Y-%m-%d}"
        yesterday = f"{timezone.now() - DAY:%Y-%m-%d}"
        entry(history, state=Backup.State.DELETED)
        for query, count in (
            ({}, 50), ({"environment": "production"}, 50), ({"environment": "staging"}, 0),
            ({"policy": "database"}, 1), ({"kind": "database"}, 1), ({"verdict": "proven"}, 1),
            ({"verdict": "failed"}, 0), ({"verdict": "none", "policy": "database"}, 0), ({"state": "held"}, 1),
            ({"state": "all", "policy": "database"}, 2), ({"q": "audit"}, 1), ({"q": "18.1"}, 1),
            ({"q": "nothing"}, 0), ({"until": "2001-01-01"}, 0), ({"since": today, "policy": "database"}, 1),
            ({"since": yesterday, "until": yesterday}, 1), ({"policy": "a b"}, 50), ({"kind": "nonsense"}, 50),
        ):  # fmt: skip
            assert self.found(client, **query) == count, query

    @pytest.mark.parametrize("nonsense", ["'", "a'b", "!&|():*", "\\", "<->", "  ", "%", "_", "/", "é/\\"])
    def test_any_words_are_words(self, client: Client, dana: Person, history: Policy, nonsense: str) -> None:
        client.force_login(dana)
        assert client.get("/backups/catalog", {"q": nonsense}).status_code == 200

    @pytest.mark.parametrize("query", ["before=x", "before=-1", f"after={10**30}", "since=never", "q=" + "x" * 300])
    def test_a_filter_that_cannot_be_read_is_left_out(
        self, client: Client, dana: Person, history: Policy, query: str
    ) -> None:
        client.force_login(dana)
        assert client.get(f"/backups/catalog?{query}").status_code == 200

    def test_page_by_page(self, client: Client, dana: Person, history: Policy) -> None:
        client.force_login(dana)
        seen: list[int] = []
        page = client.get("/backups/catalog").context["page"]
        while True:
            seen += [row.pk for row in page.rows]
            if page.rows[-1].pk == Backup.objects.earliest("pk").pk:
                break
            page = client.get("/backups/catalog", {"before": page.rows[-1].pk}).context["page"]
        assert seen == list(Backup.objects.order_by("-pk").values_list("pk", flat=True))


def test_every_page_costs_the_same_however_much_there_is(
    client: Client, alice: Person, archive: Storage, make_policy: Make,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:  # fmt: skip
    first = make_policy("database", kind=Kind.DATABASE)
    entries(first, 1000)
    now = timezone.now()
    for number in range(3):
        policy = make_policy(f"cluster-{number}", **PITR)
        base(policy, age=DAY, segment=10)
        wal(policy, (8, 99, now - 2 * DAY, now))
    for number in range(8):
        place = Environment.objects.create(slug=f"e{number}", name=f"E {number}", driver="local", position=9)
        other = Policy.objects.create(
            environment=place, slug="configuration", kind=Kind.CONFIGURATION, storage=archive, schedule="0 2 * * *"
        )
        PolicyClock.objects.create(policy=other)
        proven(other)
        request_backup(Actor(alice), other, reason="because", cause=BackupRun.Cause.PERSON)
        alarm(other, "too old")
        RestorePoint.objects.create(environment=place, name="a point", made_by_name="Alice")
    backup = Backup.objects.filter(policy=first).latest("as_of")
    parts = [backup, entry(make_policy()), base(policy, age=DAY, segment=10)]
    point = point_of(*parts[:2])
    cleanup = request_cleanup(Actor(alice), first, propose(first), reason="because")
    for kind in (Kind.UPLOADS, Kind.IMAGES):
        make_policy(f"its-{kind}", kind=kind)
    making = request_restore_point(Actor(alice), first.environment, name="before 1.6.0", reason="because")
    assert BackupRun.objects.filter(operation=making).count() == 4
    client.force_login(alice)
    for path in (
        "/backups", "/backups/catalog", "/backups/catalog?q=database", first.get_absolute_url(),
        backup.get_absolute_url(), policy.get_absolute_url(), f"/backups/{backup.pk}/restore",
        f"/backups/{backup.pk}/restore?target=existing&database=shop", point.get_absolute_url(),
        f"/backups/{parts[2].pk}/restore", cleanup.get_absolute_url(), making.get_absolute_url(), "/",
    ):  # fmt: skip
        # The board has the rest of the company to tell of, too.
        with django_assert_max_num_queries(QUERIES, info=path):
            answer = client.get(path)
        assert answer.status_code == 200, path
        assert len(answer.content) < BYTES, f"{path}: {len(answer.content)}"


def test_without_a_script_every_change_is_a_form_with_its_token(client: Client, ada: Person, policy: Policy) -> None:
    entry(policy, age=40 * DAY)
    backup = entry(policy)
    for path in ("/backups", policy.get_absolute_url(), backup.get_absolute_url()):
        main = get(client, ada, path).partition("<main")[2]
        assert main.count('method="post"') == main.count("csrfmiddlewaretoken") > 0
        assert "hx-post" not in main
