"""The pages of the runbook: overdue first, evidence only for who may look everywhere, bounded; and wrong people."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from incidents.models import RunbookRun, RunbookTask
from tests.incidents.runbook import run, task

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def text_of(client: Client, path: str = "/runbook") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def fill() -> RunbookTask:
    """Fifteen tasks of three cadences with a long history each; one was missed, one is done. Returns the missed one."""
    now = database_time()
    for number in range(15):
        cadence = ("daily", "weekly", "monthly")[number % 3]
        one = task(f"task-{number}", cadence=cadence, title=f"Task {number}", position=number)
        RunbookRun.objects.bulk_create(
            RunbookRun(task=one, opens_at=now - age * DAY, due_at=now - age * DAY + timedelta(hours=1), state="done",
                       done_at=now, done_by_name="Bob", evidence="secret evidence")
            for age in range(1, 60)
        )  # fmt: skip
        run(one, owner_name="Alice")
    RunbookRun.objects.filter(task__slug="task-9", due_at__gt=now).update(state="missed", due_at=now)
    RunbookRun.objects.filter(task__slug="task-0", due_at__gt=now).update(
        state="done", done_at=now, done_by_name="Bob", evidence="secret evidence", evidence_url="/backups"
    )
    return RunbookTask.objects.get(slug="task-9")


def test_it_says_what_to_do_today_overdue_first(client: Client, alice: Person) -> None:
    fill()
    client.force_login(alice)
    with CaptureQueriesContext(connection) as queries:
        text = text_of(client)
    assert len(queries) <= 20
    assert len(text) < 100_000
    assert text.index("Today") < text.index("This week") < text.index("This month")
    today = text[text.index("Today") : text.index("This week")]
    order = [today.index(f"<b>Task {number}</b>") for number in (9, 3, 0)]
    assert order == sorted(order)
    assert "1 of 5 done" in today
    assert "1 missed" in today
    assert 'href="/backups">the proof</a>' in today
    assert today.count('class="dots"') == 5
    assert today.count('class="state bad">missed') == 1


def test_the_strip_has_the_last_fourteen_in_shape_colour_and_word(client: Client, alice: Person) -> None:
    fill()
    client.force_login(alice)
    text = text_of(client)
    strip = text[text.index('class="dots"') :].partition("</ol>")[0]
    assert strip.count("<li") == 14
    assert strip.count('class="ok"') == 13
    assert 'class="bad"' in strip
    assert "missed</span>" in strip


def test_one_click_with_evidence(client: Client, alice: Person) -> None:
    missed = fill()
    client.force_login(alice)
    late = missed.runs.get(state="missed")
    answer = client.post(f"/runbook/{missed.slug}/tick", {"run": late.pk, "evidence": "all fresh"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/runbook")
    late.refresh_from_db()
    assert (late.state, late.done_by_name) == ("late", "Alice")
    again = client.post(f"/runbook/{missed.slug}/tick", {"run": late.pk, "evidence": "x"})
    assert again.status_code == 409
    assert "Alice has done it already" in again.content.decode()


@pytest.mark.parametrize(
    ("given", "status"),
    [({}, 422), ({"evidence": " "}, 422), ({"evidence": "x" * 2001}, 422), ({"evidence": "x", "run": "9" * 30}, 409),
     ({"evidence": "x", "run": "-1"}, 409)],
)  # fmt: skip
def test_bad_input_is_said_and_changes_nothing(
    client: Client, alice: Person, given: dict[str, str], status: int
) -> None:
    one = run(task())
    client.force_login(alice)
    answer = client.post("/runbook/backups/tick", {"run": one.pk, **given})
    assert answer.status_code == status
    assert "Nothing was changed" in answer.content.decode()
    assert RunbookRun.objects.get().state == "open"


def test_the_history_of_a_task_goes_on_and_on(client: Client, dana: Person) -> None:
    missed = fill()
    client.force_login(dana)
    path = missed.get_absolute_url()
    with CaptureQueriesContext(connection) as queries:
        first = text_of(client, path)
    assert len(queries) <= 20
    assert first.count(">due <time") == 30
    older = first.partition('rel="next" href="')[2].partition('"')[0]
    second = text_of(client, path + older)
    assert second.count(">due <time") == 30
    assert 'rel="prev"' in second


def test_evidence_is_for_who_may_look_everywhere(client: Client, dana: Person, eve: Person) -> None:
    missed = fill()
    for path in ("/runbook", missed.get_absolute_url()):
        client.force_login(dana)
        assert "secret evidence" in text_of(client, path)
        client.force_login(eve)
        text = text_of(client, path)
        assert "secret evidence" not in text
        assert "the proof" not in text


def test_who_only_looks_is_offered_nothing(client: Client, dana: Person, eve: Person) -> None:
    missed = fill()
    for who in (dana, eve):
        client.force_login(who)
        for path in ("/runbook", missed.get_absolute_url()):
            assert '<form method="post"' not in text_of(client, path).partition("<main")[2]


def test_an_empty_runbook_teaches_the_first_step(client: Client, dana: Person) -> None:
    client.force_login(dana)
    assert "bin/manage apply controlplane/samples/pitchey.toml" in text_of(client)


GETS = ["/runbook", "/runbook/backups"]
POSTS = {"/runbook/backups/tick": {"evidence": "x"}, "/runbook/backups/pause": {"what": "pause", "reason": "x"}}


class TestWrongPeople:
    @pytest.fixture(autouse=True)
    def untouched(self, db: None) -> object:
        run(task())
        before = [list(kind._default_manager.values()) for kind in (RunbookTask, RunbookRun)]
        yield
        assert [list(kind._default_manager.values()) for kind in (RunbookTask, RunbookRun)] == before

    @pytest.mark.parametrize("path", [*GETS, *POSTS])
    def test_a_stranger_is_sent_to_the_sign_in(self, client: Client, path: str) -> None:
        answer = client.post(path, POSTS[path]) if path in POSTS else client.get(path)
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/login")

    @pytest.mark.parametrize("path", [*GETS, *POSTS])
    def test_an_outsider_is_refused(self, client: Client, charlie: Person, path: str) -> None:
        client.force_login(charlie)
        answer = client.post(path, POSTS[path]) if path in POSTS else client.get(path)
        assert answer.status_code == 403
        assert Entry.objects.get(action="access.denied").actor == "Charlie"

    @pytest.mark.parametrize("path", POSTS)
    @pytest.mark.parametrize("who", ["dana", "eve"])
    def test_who_may_look_changes_nothing(
        self, client: Client, request: pytest.FixtureRequest, path: str, who: str
    ) -> None:
        client.force_login(request.getfixturevalue(who))
        assert client.post(path, POSTS[path]).status_code == 403

    def test_only_an_admin_pauses(self, client: Client, alice: Person, bob: Person) -> None:
        for who in (alice, bob):
            client.force_login(who)
            assert client.post("/runbook/backups/pause", POSTS["/runbook/backups/pause"]).status_code == 403
            assert "Pause it" not in text_of(client, "/runbook/backups")

    @pytest.mark.parametrize("path", POSTS)
    def test_nothing_is_changed_by_a_link_or_from_elsewhere(self, ada: Person, path: str) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(ada)
        assert client.get(path).status_code == 405
        assert client.post(path, POSTS[path]).status_code == 403

    def test_what_is_not_there_is_not_found(self, client: Client, ada: Person) -> None:
        client.force_login(ada)
        assert client.get("/runbook/nothing").status_code == 404
        assert client.post("/runbook/nothing/tick", {"evidence": "x"}).status_code == 404


def test_an_admin_pauses_and_goes_on(client: Client, ada: Person) -> None:
    run(task())
    client.force_login(ada)
    assert client.post("/runbook/backups/pause", {"what": "pause", "reason": ""}).status_code == 422
    assert client.post("/runbook/backups/pause", {"what": "pause", "reason": "closed"}).status_code == 302
    assert "Ask for it again" in text_of(client, "/runbook/backups")
    assert client.post("/runbook/backups/pause", {"what": "pause", "reason": "closed"}).status_code == 409
    assert client.post("/runbook/backups/pause", {"what": "resume", "reason": "open"}).status_code == 302
    assert not RunbookTask.objects.get().paused
