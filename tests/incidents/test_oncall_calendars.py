"""iCalendar out and in: who may read it, what it says, that the same file twice is once, and what no file can do."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from icalendar import Calendar

from controlplane.accounts.models import Person, Role
from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from incidents.models import Override, Schedule
from incidents.oncall.export import key_for
from incidents.oncall.now import on_call
from tests.api.conftest import token
from tests.incidents.oncall_world import BERLIN, DAY, HOUR, coming, primary

pytestmark = pytest.mark.django_db
URL = "/on-call/primary.ics"


@pytest.fixture
def schedule(alice: Person, bob: Person) -> Schedule:
    return primary()


def events_of(answer: Any) -> list[Any]:
    assert answer["Content-Type"].startswith("text/calendar")
    return list(Calendar.from_ical(answer.content).walk("VEVENT"))


class TestOut:
    def test_each_stretch_is_an_event_and_they_meet(self, client: Client, schedule: Schedule, alice: Person) -> None:
        client.force_login(alice)
        events = events_of(client.get(URL))
        assert len(events) > 26
        for before, after in pairwise(events):
            assert before["DTEND"].dt == after["DTSTART"].dt
            assert before["SUMMARY"] != after["SUMMARY"]
        assert {str(one["SUMMARY"]) for one in events} == {"Alice on call: Primary", "Bob on call: Primary"}
        shift = coming(schedule, "bob")
        assert [one["ATTENDEE"].params["CN"] for one in events if one["DTSTART"].dt == shift.starts_at] == ["bob"]

    def test_only_ones_own(self, client: Client, schedule: Schedule, alice: Person) -> None:
        client.force_login(alice)
        events = events_of(client.get(URL, {"only": "alice"}))
        assert {str(one["SUMMARY"]) for one in events} == {"Alice on call: Primary"}
        assert b"VEVENT" not in client.get(URL, {"only": "zed"}).content

    def test_the_key_in_the_address_reads_it_without_signing_in(
        self, client: Client, schedule: Schedule, dana: Person
    ) -> None:
        client.force_login(dana)
        page = client.get("/on-call/primary").content.decode()
        key = key_for(dana, schedule)
        assert f"http://testserver{URL}?key={key}" in page
        assert events_of(Client().get(URL, {"key": key}))

    def test_the_key_ends_with_the_password_the_account_and_the_roles(
        self, client: Client, schedule: Schedule, dana: Person
    ) -> None:
        key = key_for(dana, schedule)
        grant = dana.grants.get()
        grant.delete()
        assert client.get(URL, {"key": key}).status_code == 404
        dana.grants.create(scope="*", role=Role.VIEWER)
        assert client.get(URL, {"key": key}).status_code == 200
        Person.objects.filter(pk=dana.pk).update(is_active=False)
        assert client.get(URL, {"key": key}).status_code == 401
        Person.objects.filter(pk=dana.pk).update(is_active=True)
        dana.set_password("another-one-1")
        dana.save()
        assert client.get(URL, {"key": key}).status_code == 401

    def test_the_key_opens_one_schedule(self, client: Client, schedule: Schedule, dana: Person) -> None:
        key = key_for(dana, primary(slug="other"))
        assert client.get(URL, {"key": key}).status_code == 401

    @pytest.mark.parametrize("key", ["x", "1-", "1-abc", "-", "9" * 40, "²-a", "99999-" + "0" * 40])
    def test_a_wrong_key_opens_nothing(self, client: Client, schedule: Schedule, key: str) -> None:
        assert client.get(URL, {"key": key}).status_code == 401

    def test_a_token_reads_it(self, schedule: Schedule, dana: Person) -> None:
        good, bad = (Client(headers={"Authorization": f"Bearer {one}"})
                     for one in (token(dana, Role.VIEWER), "cp_nothing"))  # fmt: skip
        assert events_of(good.get(URL))
        assert bad.get(URL).status_code == 401

    def test_strangers_and_outsiders_do_not(self, client: Client, schedule: Schedule, charlie: Person) -> None:
        assert client.get(URL).status_code == 401
        client.force_login(charlie)
        assert client.get(URL).status_code == 404
        assert client.get("/on-call/nothing.ics").status_code == 404


# --- in -----------------------------------------------------------------------------------------------


def when(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)


def event(*lines: str, uid: str = "one@example", summary: str = "bob", start: str = "", end: str = "") -> str:
    rows = [
        "BEGIN:VEVENT",
        f"UID:{uid}",
        f"DTSTART{start or ':' + when(TOMORROW)}",
        f"DTEND{end or ':' + when(TOMORROW + 4 * HOUR)}",
        f"SUMMARY:{summary}",
        *lines,
        "END:VEVENT",
    ]
    return "\r\n".join(rows)


def file(*events: str) -> str:
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN"]
    return "\r\n".join([*head, *events, "END:VCALENDAR", ""])


def bring(client: Client, who: Person, body: str | bytes, *, reason: str = "the old rota") -> Any:
    client.force_login(who)
    content = body.encode() if isinstance(body, str) else body
    upload = SimpleUploadedFile("rota.ics", content, content_type="text/calendar")
    return client.post(reverse("on-call-import", args=["primary"]), {"calendar": upload, "reason": reason})


def local(one: datetime) -> str:
    return one.astimezone(BERLIN).strftime("%Y-%m-%d %H:%M")


class TestIn:
    def test_an_event_puts_whom_it_names_on_call(
        self, client: Client, schedule: Schedule, alice: Person, bob: Person
    ) -> None:
        assert bring(client, alice, file(event())).status_code == 302
        made = Override.objects.get()
        assert (made.person, made.starts_at, made.ends_at) == ("bob", TOMORROW, TOMORROW + 4 * HOUR)
        assert (made.author_name, made.reason, made.uid) == ("Alice", "the old rota", "one@example")
        assert on_call("primary", TOMORROW) == [bob]
        entry = Entry.objects.order_by("-pk").first()
        assert entry
        assert (entry.action, entry.reason) == ("oncall.imported", "the old rota")

    @pytest.mark.parametrize(
        "lines",
        [
            {"summary": "Bob"},
            {"summary": "BOB on call: Primary"},
            {"summary": "bob: nights"},
            {"summary": "shift", "more": "ATTENDEE;CN=bob:mailto:somebody@else.where"},
            {"summary": "shift", "more": "ATTENDEE:mailto:BOB@example.com"},
        ],
    )
    def test_people_are_known_by_attendee_or_summary(
        self, client: Client, schedule: Schedule, alice: Person, bob: Person, lines: dict[str, str]
    ) -> None:
        Person.objects.filter(pk=bob.pk).update(email="bob@example.com")
        more = [lines["more"]] if "more" in lines else []
        assert bring(client, alice, file(event(*more, summary=lines["summary"]))).status_code == 302
        assert Override.objects.get().person == "bob"

    def test_the_same_file_again_changes_nothing(self, client: Client, schedule: Schedule, alice: Person) -> None:
        body = file(event(), event(uid="two@example", summary="alice"))
        bring(client, alice, body)
        imports = Entry.objects.filter(action="oncall.imported")
        before = list(Override.objects.values())
        assert bring(client, alice, body).status_code == 302
        assert (list(Override.objects.values()), imports.count()) == (before, 1)

    def test_a_changed_event_is_changed_and_a_cancelled_one_goes(
        self, client: Client, schedule: Schedule, alice: Person
    ) -> None:
        bring(client, alice, file(event()))
        bring(client, alice, file(event(summary="alice")))
        assert Override.objects.get().person == "alice"
        bring(client, alice, file(event("STATUS:CANCELLED", summary="gone person")))
        assert Override.objects.get().cancelled_at is not None

    def test_what_a_person_cancelled_here_stays_cancelled(
        self, client: Client, schedule: Schedule, alice: Person
    ) -> None:
        bring(client, alice, file(event()))
        Override.objects.update(cancelled_at=database_time())
        bring(client, alice, file(event()))
        assert Override.objects.get().cancelled_at is not None

    def test_an_event_that_was_moved_leaves_nothing_behind(
        self, client: Client, schedule: Schedule, alice: Person
    ) -> None:
        daily = event("RRULE:FREQ=DAILY;COUNT=3")
        bring(client, alice, file(daily, event(uid="other@x", summary="alice")))
        bring(client, alice, file(event("RRULE:FREQ=DAILY;COUNT=2", start=f":{when(TOMORROW + HOUR)}")))
        kept = Override.objects.filter(cancelled_at=None).order_by("starts_at", "uid")
        assert [(one.person, one.starts_at - TOMORROW) for one in kept] == [
            ("alice", 0 * DAY),  # its event is not in the second file, so nothing was said of it
            ("bob", HOUR),
            ("bob", DAY + HOUR),
        ]

    def test_a_time_that_the_clocks_skip_is_none(self, client: Client, schedule: Schedule, alice: Person) -> None:
        """The last Sunday of March, 02:10 to 02:50, is not there in Berlin."""
        year = datetime.now(UTC).year + 1
        sunday = max(day for day in (date(year, 3, 31 - back) for back in range(7)) if day.weekday() == 6)
        skipped = event(start=f";TZID=Europe/Berlin:{sunday:%Y%m%d}T021000",
                        end=f";TZID=Europe/Berlin:{sunday:%Y%m%d}T025000")  # fmt: skip
        assert bring(client, alice, file(skipped)).status_code == 302
        assert not Override.objects.exists()

    def test_one_that_runs_is_from_now_on_and_taken_back_it_stays_so(
        self, client: Client, schedule: Schedule, alice: Person
    ) -> None:
        begin = datetime.now(UTC).replace(microsecond=0) - HOUR
        running = {"start": f":{when(begin)}", "end": f":{when(begin + 5 * HOUR)}"}
        bring(client, alice, file(event(**running)))
        made = Override.objects.get()
        assert made.starts_at > begin  # who was on call in the hour before stays as it was
        bring(client, alice, file(event(**running)))
        assert list(Override.objects.values()) == list(Override.objects.filter(pk=made.pk).values())
        bring(client, alice, file(event(**running, summary="alice")))
        before, after = Override.objects.order_by("pk")
        assert (before.person, after.person) == ("bob", "alice")
        assert before.ends_at == after.starts_at
        reverse_url = reverse("on-call-override-cancel", args=["primary", after.pk])
        client.post(reverse_url, {"reason": "no"})
        bring(client, alice, file(event(**running, summary="alice")))
        assert Override.objects.count() == 2
        assert on_call("primary", database_time()) != [] and not Override.objects.filter(
            ends_at__gt=database_time(), cancelled_at=None
        )

    @pytest.mark.parametrize("uid", ["a#b", "a#20300101T000000", "#", "a b"])
    def test_any_uid_is_known_again(self, client: Client, schedule: Schedule, alice: Person, uid: str) -> None:
        for rule in ("RRULE:FREQ=DAILY;COUNT=2", "RRULE:FREQ=DAILY;COUNT=2"):
            assert bring(client, alice, file(event(rule, uid=uid))).status_code == 302
        assert Override.objects.filter(cancelled_at=None).count() == 2
        bring(client, alice, file(event(uid=uid)))
        assert Override.objects.filter(cancelled_at=None).count() == 1

    def test_a_long_uid_is_one_too(self, client: Client, schedule: Schedule, alice: Person) -> None:
        for _ in range(2):
            bring(client, alice, file(event("RRULE:FREQ=DAILY;COUNT=2", uid="x" * 3000)))
        assert Override.objects.count() == 2

    def test_what_is_over_is_left_out(self, client: Client, schedule: Schedule, alice: Person) -> None:
        old = event(start=":20200101T090000Z", end=":20200101T170000Z")
        assert bring(client, alice, file(old)).status_code == 302
        assert not Override.objects.exists()

    def test_a_weekly_repeat_keeps_its_wall_time(self, client: Client, schedule: Schedule, alice: Person) -> None:
        start = (datetime.now(BERLIN) + DAY).replace(hour=22, minute=0, second=0, microsecond=0)
        begin, end = f"{start:%Y%m%dT%H%M%S}", f"{start + 8 * HOUR:%Y%m%dT%H%M%S}"
        body = file(event("RRULE:FREQ=WEEKLY;COUNT=40", start=f";TZID=Europe/Berlin:{begin}",
                          end=f";TZID=Europe/Berlin:{end}"))  # fmt: skip
        assert bring(client, alice, body).status_code == 302
        made = list(Override.objects.order_by("starts_at"))
        assert len(made) == 40
        assert {local(one.starts_at)[-5:] for one in made} == {"22:00"}
        assert {local(one.ends_at)[-5:] for one in made} == {"06:00"}
        bring(client, alice, body)
        assert Override.objects.count() == 40

    def test_an_endless_daily_repeat_ends_after_a_year(self, client: Client, schedule: Schedule, alice: Person) -> None:
        assert bring(client, alice, file(event("RRULE:FREQ=DAILY"))).status_code == 302
        assert 364 <= Override.objects.count() <= 367

    def test_every_other_week_on_some_days_but_not_on_that_one(
        self, client: Client, schedule: Schedule, alice: Person
    ) -> None:
        monday = TOMORROW + ((7 - TOMORROW.weekday()) % 7) * DAY
        left_out = monday + 2 * DAY
        rule = event(f"EXDATE:{when(left_out)}", "RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;COUNT=4",
                     start=f":{when(monday)}", end=f":{when(monday + HOUR)}")  # fmt: skip
        assert bring(client, alice, file(rule)).status_code == 302
        found = [one.starts_at - monday for one in Override.objects.order_by("starts_at")]
        assert found == [0 * DAY, 14 * DAY, 16 * DAY]

    def test_until_is_the_last_and_whole_days_are_local(
        self, client: Client, schedule: Schedule, alice: Person
    ) -> None:
        day = datetime.now(BERLIN).date() + 2 * DAY
        rule = event(f"RRULE:FREQ=DAILY;UNTIL={day + 2 * DAY:%Y%m%d}", start=f";VALUE=DATE:{day:%Y%m%d}",
                     end=f";VALUE=DATE:{day + DAY:%Y%m%d}")  # fmt: skip
        assert bring(client, alice, file(rule)).status_code == 302
        assert [local(one.starts_at) for one in Override.objects.order_by("starts_at")] == [
            f"{day + more * DAY} 00:00" for more in range(3)
        ]

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "empty"),
            (b"not a calendar", "not an iCalendar file"),
            (b"\xff\xfe\x00\x01", "iCalendar file"),
            (b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n", "iCalendar file"),
            (file().encode(), "no event"),
            (b"BEGIN:VEVENT\r\nUID:x\r\nEND:VEVENT\r\n", "one iCalendar file"),
            (file(event(summary="zed")).encode(), "names nobody who is known"),
            (file(event(summary="charlie")).encode(), "names nobody who is known"),
            (file(event(uid="")).encode(), "has no UID"),
            (file(event(), event(summary="alice")).encode(), "twice"),
            (file(event(end=":20200101T000000Z")).encode(), "end after it begins"),
            (file(event(end=":29990101T000000Z")).encode(), "too far away"),
            (file(event(start=":tomorrow")).encode(), "DTSTART cannot be read"),
            (file(event("RRULE:FREQ=SECONDLY")).encode(), "daily and weekly repeats"),
            (file(event("RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30")).encode(), "daily and weekly repeats"),
            (file(event("RRULE:FREQ=WEEKLY;BYDAY=1MO")).encode(), "daily and weekly repeats"),
            (file(event(start=";TZID=Mars/Phobos:20300101T000000")).encode(), "time zone Mars/Phobos of DTSTART"),
            (file(event("RRULE:nonsense")).encode(), "Event 1"),
            (file(event("RDATE:20300101T000000Z")).encode(), "RDATE"),
            (file(event("RECURRENCE-ID:20300101T000000Z")).encode(), "RECURRENCE-ID"),
            (file(event("RRULE:FREQ=DAILY", start=":20010101T000000Z", end=":20010101T010000Z")).encode(), "five year"),
            (file(*[event("RRULE:FREQ=DAILY", uid=f"{n}@x") for n in range(6)]).encode(), "more than 2000"),
            (file(*[event(uid=f"{n}@x") for n in range(501)]).encode(), "at most 500"),
        ],
    )  # fmt: skip
    def test_a_bad_file_is_refused_and_changes_nothing(  # noqa: PLR0917 (fixtures)
        self, client: Client, schedule: Schedule, alice: Person, charlie: Person, body: bytes, words: str
    ) -> None:
        Person.objects.filter(pk=charlie.pk).update(is_active=False)
        good = event(uid="good@x")
        if b"BEGIN:VCALENDAR" in body and b"END:VCALENDAR" in body and words != "no event":
            body = body.replace(b"BEGIN:VEVENT", good.encode() + b"\r\nBEGIN:VEVENT", 1)
            words = words.replace("Event 1", "Event 2")
        answer = bring(client, alice, body)
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert not Override.objects.exists()

    def test_a_name_of_two_people_is_no_name(
        self, client: Client, schedule: Schedule, alice: Person, bob: Person
    ) -> None:
        Person.objects.filter(pk__in=[alice.pk, bob.pk]).update(first_name="Robin")
        answer = bring(client, alice, file(event(summary="Robin")))
        assert answer.status_code == 422
        assert "could be alice or bob" in answer.content.decode()

    def test_a_file_that_is_too_large_is_refused(self, client: Client, schedule: Schedule, alice: Person) -> None:
        answer = bring(client, alice, file(event(f"DESCRIPTION:{'x' * 1_000_001}")))
        assert answer.status_code == 422
        assert not Override.objects.exists()

    def test_wrong_people_import_nothing(
        self, client: Client, schedule: Schedule, dana: Person, eve: Person, charlie: Person
    ) -> None:
        assert [bring(client, one, file(event())).status_code for one in (dana, eve, charlie)] == [403, 403, 404]
        assert not Override.objects.exists()

    def test_what_goes_out_comes_in_again(self, client: Client, schedule: Schedule, alice: Person, bob: Person) -> None:
        client.force_login(alice)
        body = client.get(URL).content
        assert bring(client, alice, body).status_code == 302
        shift = coming(schedule, "bob")
        schedule.layers.all().delete()
        assert on_call("primary", shift.starts_at) == [bob]
