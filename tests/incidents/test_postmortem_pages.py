"""The pages of lessons: rendered safely, edited without losing a word, bounded, and refused to the wrong people."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from incidents.lessons import action_items, documents
from incidents.models import ActionItem, Incident, Postmortem, PostmortemVersion, Review
from tests.estate import Estate
from tests.incidents.lessons import opened, resolved, written

pytestmark = pytest.mark.django_db
EVIL = "## Hello\n\n<script>alert(1)</script> [x](javascript:alert(1)) <img src=x onerror=alert(1)> [#1] **bold**"


@pytest.fixture
def found(alice: Person, estate: Estate) -> Postmortem:
    """As the system drafted it."""
    return written(alice)


@pytest.fixture
def item(found: Postmortem, alice: Person, bob: Person) -> ActionItem:
    """Bob's, due in a week."""
    return action_items.add(
        found.incident_id, Actor(alice), title="Alert on the pool", owner=bob,
        due_on=timezone.now().date() + timedelta(days=7), verification="it fires in staging",
    )  # fmt: skip


def path_of(found: Postmortem, rest: str = "") -> str:
    return f"/incidents/{found.incident_id}/post-mortem{rest}"


def text_of(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status
    return answer.content.decode()


def main_of(text: str) -> str:
    return text.partition("<main")[2]


class TestReading:
    def test_citations_lead_to_the_entries_of_the_incident(
        self, client: Client, dana: Person, found: Postmortem
    ) -> None:
        client.force_login(dana)
        text = text_of(client, path_of(found))
        assert f'<a href="/incidents/{found.incident_id}#entry-1" class="cite">#1</a>' in text
        assert "What went badly" in text
        assert '<form method="post"' not in main_of(text)
        # What is too far back to be on the first screen of the incident is shown by itself.
        Incident.objects.filter(pk=found.incident_id).update(last_seq=300)
        alone = f'<a href="/incidents/{found.incident_id}/entries/1" class="cite">#1</a>'
        assert alone in text_of(client, path_of(found))

    def test_nothing_that_was_written_is_html(self, client: Client, alice: Person, found: Postmortem) -> None:
        documents.save(found.incident_id, Actor(alice), EVIL, 1)
        client.force_login(alice)
        for query in ("", "?version=2", "?version=1"):
            main = main_of(text_of(client, path_of(found) + query)).partition("</main>")[0]
            assert "<script" not in main
            assert "<img" not in main
            assert 'href="javascript' not in main
        assert "<strong>bold</strong>" in text_of(client, path_of(found))

    def test_a_version_shows_what_it_changed(
        self, client: Client, dana: Person, alice: Person, found: Postmortem
    ) -> None:
        documents.save(found.incident_id, Actor(alice), "one\n\ntwo\n", 1)
        documents.save(found.incident_id, Actor(alice), "one\n\nthree\n", 2)
        client.force_login(alice)
        text = text_of(client, path_of(found, "?version=3"))
        assert (
            '<li class="added"><span class="unseen">added: </span><span aria-hidden="true">+</span> three</li>' in text
        )
        assert '<li class="removed"><span class="unseen">removed: </span>' in text
        old = text_of(client, path_of(found, "?version=2"))
        assert "<p>two</p>" in old
        assert "to the last one" in old

    @pytest.mark.parametrize("query", ["?version=99", "?version=x", "?version=-1", "?version=" + "9" * 40, "?version="])
    def test_a_version_that_is_not_there_is_the_last(
        self, client: Client, dana: Person, found: Postmortem, query: str
    ) -> None:
        client.force_login(dana)
        assert "What went badly" in text_of(client, path_of(found) + query)

    def test_it_stays_small_and_quick(self, client: Client, alice: Person, bob: Person, found: Postmortem) -> None:
        for version in range(1, 31):
            documents.save(found.incident_id, Actor((alice, bob)[version % 2]), f"text {version}\n" * 400, version)
        for number in range(30):
            action_items.add(
                found.incident_id, Actor(alice), title=f"thing {number}", owner=bob, verification="v",
                due_on=timezone.now().date(),
            )  # fmt: skip
        client.force_login(alice)
        with CaptureQueriesContext(connection) as queries:
            text = text_of(client, path_of(found, "?version=30"))
        assert len(queries) <= 20
        assert len(text) < 100_000
        assert text.count('href="?version=') == 20

    def test_before_the_resolution_it_says_what_will_come(self, client: Client, alice: Person, estate: Estate) -> None:
        incident = opened()
        client.force_login(alice)
        assert "The incident is not over" in text_of(client, f"/incidents/{incident.pk}/post-mortem")
        assert text_of(client, f"/incidents/{incident.pk}/post-mortem/edit", 404)

    def test_one_that_was_never_drafted_is_drafted_by_a_button(
        self, client: Client, alice: Person, estate: Estate
    ) -> None:
        incident = resolved(alice)
        client.force_login(alice)
        path = f"/incidents/{incident.pk}/post-mortem"
        assert "Draft it now" in text_of(client, path)
        assert client.post(f"{path}/state", {"state": "new"}).status_code == 302
        assert "What went badly" in text_of(client, path)
        assert client.post(f"{path}/state", {"state": "new"}).status_code == 409


class TestWriting:
    def test_a_preview_needs_no_script_and_saves_nothing(
        self, client: Client, alice: Person, found: Postmortem
    ) -> None:
        client.force_login(alice)
        answer = client.post(path_of(found, "/edit"), {"version": "1", "body": EVIL, "what": "preview"})
        assert answer.status_code == 200
        text = answer.content.decode()
        assert "<strong>bold</strong>" in text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert PostmortemVersion.objects.count() == 1

    def test_saving_makes_the_next_version(self, client: Client, alice: Person, found: Postmortem) -> None:
        client.force_login(alice)
        assert "What went badly" in text_of(client, path_of(found, "/edit"))
        answer = client.post(path_of(found, "/edit"), {"version": "1", "body": "mine\r\n\r\nand more", "what": "save"})
        assert answer.headers["Location"] == path_of(found)
        assert PostmortemVersion.objects.get(number=2).body == "mine\n\nand more\n"

    def test_whoever_comes_second_loses_no_word(
        self, client: Client, alice: Person, bob: Person, found: Postmortem
    ) -> None:
        documents.save(found.incident_id, Actor(bob), "what bob wrote", 1)
        client.force_login(alice)
        answer = client.post(path_of(found, "/edit"), {"version": "1", "body": "what alice wrote", "what": "save"})
        assert answer.status_code == 409
        text = answer.content.decode()
        assert "what alice wrote" in text
        assert "what bob wrote" in text
        assert "Bob saved version 2 while you wrote on version 1" in text
        assert 'name="version" value="2"' in text
        answer = client.post(path_of(found, "/edit"), {"version": "2", "body": "both", "what": "save"})
        assert answer.status_code == 302
        assert PostmortemVersion.objects.get(number=3).body == "both\n"

    @pytest.mark.parametrize(
        "given", [{"body": ""}, {"body": "x" * 50_000}, {"version": "x"}, {"version": ""}, {"version": "9" * 30}]
    )
    def test_what_cannot_be_saved_is_kept_and_said(
        self, client: Client, alice: Person, found: Postmortem, given: dict[str, str]
    ) -> None:
        client.force_login(alice)
        answer = client.post(path_of(found, "/edit"), {"version": "1", "body": "kept words", "what": "save", **given})
        assert answer.status_code == 422
        assert given.get("body", "kept words")[:100] in answer.content.decode()
        assert PostmortemVersion.objects.count() == 1

    def test_the_whole_way_to_publishing(self, client: Client, alice: Person, bob: Person, found: Postmortem) -> None:
        client.force_login(alice)
        client.post(path_of(found, "/edit"), {"version": "1", "body": "it was the pool [#1]", "what": "save"})
        assert client.post(path_of(found, "/review"), {"what": "ask", "person": "bob"}).status_code == 302
        assert client.post(path_of(found, "/state"), {"state": "review"}).status_code == 302
        assert client.post(path_of(found, "/review"), {"what": "approved", "version": "2"}).status_code == 403
        assert client.post(path_of(found, "/state"), {"state": "published"}).status_code == 409
        client.force_login(bob)
        assert "Approve version 2" in text_of(client, path_of(found))
        assert client.post(path_of(found, "/review"), {"what": "changes", "version": "2"}).status_code == 422
        assert client.post(path_of(found, "/review"), {"what": "approved", "version": "1"}).status_code == 409
        assert client.post(path_of(found, "/review"), {"what": "approved", "version": "2"}).status_code == 302
        assert "Publish" in text_of(client, path_of(found))
        assert client.post(path_of(found, "/state"), {"state": "published"}).status_code == 302
        assert Postmortem.objects.get().state == "published"
        assert "makes it a draft again" in text_of(client, path_of(found, "/edit"))
        assert Entry.objects.filter(action="postmortem.review", data__denied=True).count() == 1

    @pytest.mark.parametrize(
        ("rest", "given", "status"),
        [
            ("/state", {"state": "burnt"}, 422),
            ("/state", {}, 422),
            ("/review", {"what": "love"}, 422),
            ("/review", {"what": "ask", "person": "nobody"}, 422),
            ("/review", {"what": "ask", "person": "dana"}, 422),
            ("/review", {"what": "approved", "version": "x"}, 409),
        ],
    )
    def test_bad_input_is_said(  # noqa: PLR0917
        self,
        client: Client,
        alice: Person,
        dana: Person,
        found: Postmortem,
        rest: str,
        given: dict[str, str],
        status: int,
    ) -> None:
        client.force_login(alice)
        answer = client.post(path_of(found, rest), given)
        assert answer.status_code == status
        assert "Nothing was changed" in answer.content.decode()
        assert not Review.objects.exists()


class TestItems:
    def test_the_form_says_what_is_missing_and_keeps_the_rest(
        self, client: Client, alice: Person, found: Postmortem
    ) -> None:
        client.force_login(alice)
        path = f"/incidents/{found.incident_id}/action-items"
        given = {"title": "Alert", "owner": "alice", "due_on": "2031-02-03", "verification": ""}
        answer = client.post(path, given)
        assert answer.status_code == 422
        assert 'value="Alert"' in answer.content.decode()
        for wrong in ({"owner": "nobody"}, {"due_on": "soon"}, {"due_on": "2020-01-01"}, {"title": "x" * 301}):
            assert client.post(path, {**given, "verification": "v", **wrong}).status_code == 422
        assert not ActionItem.objects.exists()
        assert client.post(path, {**given, "verification": "v"}).status_code == 302
        assert ActionItem.objects.get().owner == alice

    def test_overdue_ones_come_first_in_the_list(
        self, client: Client, alice: Person, bob: Person, found: Postmortem, item: ActionItem
    ) -> None:
        late = action_items.add(
            found.incident_id, Actor(alice), title="the late one", owner=bob, verification="v",
            due_on=timezone.now().date(),
        )  # fmt: skip
        ActionItem.objects.filter(pk=late.pk).update(due_on=timezone.now().date() - timedelta(days=2))
        client.force_login(alice)
        with CaptureQueriesContext(connection) as queries:
            text = text_of(client, "/action-items")
        assert len(queries) <= 20
        assert text.index("the late one") < text.index("Alert on the pool")
        assert '<span class="state bad">overdue</span>' in text
        assert "2 days late" in text

    def test_from_done_to_verified_by_another(
        self, client: Client, alice: Person, bob: Person, item: ActionItem
    ) -> None:
        path = f"/action-items/{item.pk}"
        client.force_login(bob)
        assert client.post(path, {"what": "done", "words": ""}).status_code == 422
        answer = client.post(path, {"what": "done", "words": "commit 1a2b", "back": "list"})
        assert answer.headers["Location"] == "/action-items"
        assert client.post(path, {"what": "verify", "words": "works"}).status_code == 403
        client.force_login(alice)
        assert client.post(path, {"what": "burn", "words": "x"}).status_code == 422
        assert client.post(path, {"what": "verify", "words": "it fired"}).status_code == 302
        assert client.post(path, {"what": "drop", "words": "x"}).status_code == 409
        text = text_of(client, "/action-items")
        assert "commit 1a2b" in text
        assert "verified by Alice" in text

    def test_the_list_goes_on(self, client: Client, alice: Person, bob: Person, found: Postmortem) -> None:
        ActionItem.objects.bulk_create(
            ActionItem(incident_id=found.incident_id, title=f"thing {number}", owner=bob, owner_name="Bob",
                       due_on=timezone.now().date(), state="dropped")
            for number in range(45)
        )  # fmt: skip
        client.force_login(alice)
        first = text_of(client, "/action-items")
        assert first.count('id="item-') == 20
        older = first.partition('rel="next" href="')[2].partition('"')[0]
        assert text_of(client, "/action-items" + older).count('id="item-') == 20


GETS = ["/post-mortem", "/post-mortem/edit"]
POSTS = {
    "/post-mortem/edit": {"version": "1", "body": "mine", "what": "save"},
    "/post-mortem/state": {"state": "review"},
    "/post-mortem/review": {"what": "ask", "person": "bob"},
    "/action-items": {"title": "t", "owner": "bob", "due_on": "2031-01-01", "verification": "v"},
}


class TestWrongPeople:
    @pytest.fixture(autouse=True)
    def untouched(self, item: ActionItem) -> object:
        kinds = (Postmortem, PostmortemVersion, Review, ActionItem, Incident)
        before = [list(kind._default_manager.order_by("pk").values()) for kind in kinds]
        yield
        assert [list(kind._default_manager.order_by("pk").values()) for kind in kinds] == before

    def address(self, found: Postmortem, rest: str) -> str:
        return f"/incidents/{found.incident_id}{rest}"

    def posts(self, found: Postmortem, item: ActionItem) -> dict[str, dict[str, str]]:
        known = {self.address(found, rest): given for rest, given in POSTS.items()}
        return {**known, f"/action-items/{item.pk}": {"what": "done", "words": "x"}}

    def test_strangers(self, client: Client, found: Postmortem, item: ActionItem) -> None:
        for path in [*(self.address(found, rest) for rest in GETS), "/action-items"]:
            assert client.get(path).headers["Location"].startswith("/login")
        for path, given in self.posts(found, item).items():
            assert client.post(path, given).headers["Location"].startswith("/login")

    @pytest.mark.parametrize("who", ["charlie", "eve"])
    def test_who_sees_nothing_there_finds_nothing(
        self, client: Client, request: pytest.FixtureRequest, found: Postmortem, item: ActionItem, who: str
    ) -> None:
        client.force_login(request.getfixturevalue(who))
        for rest in GETS:
            assert client.get(self.address(found, rest)).status_code == 404
        for path, given in self.posts(found, item).items():
            assert client.post(path, given).status_code == 404
        assert "Alert on the pool" not in text_of(client, "/action-items")
        assert Entry.objects.filter(action="access.denied", actor=who.title()).count() == len(GETS) + 5

    def test_who_looks_changes_nothing(self, client: Client, dana: Person, found: Postmortem, item: ActionItem) -> None:
        client.force_login(dana)
        assert client.get(self.address(found, "/post-mortem/edit")).status_code == 403
        for path, given in self.posts(found, item).items():
            assert client.post(path, given).status_code == 403
        for path in (self.address(found, "/post-mortem"), "/action-items"):
            assert '<form method="post"' not in main_of(text_of(client, path))

    def test_links_and_forms_of_elsewhere(self, ada: Person, found: Postmortem, item: ActionItem) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(ada)
        for path, given in self.posts(found, item).items():
            assert client.post(path, given).status_code == 403
            assert client.get(path).status_code in (200, 405)

    def test_what_is_not_there(self, client: Client, ada: Person) -> None:
        client.force_login(ada)
        assert client.get("/incidents/999999/post-mortem").status_code == 404
        assert client.post("/action-items/999999", {"what": "done", "words": "x"}).status_code == 404
