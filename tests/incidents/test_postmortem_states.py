"""A post-mortem is written in versions, read by somebody else, and published only then."""

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.errors import Conflict, Invalid, Refused
from incidents import timeline
from incidents.lessons import documents
from incidents.models import Channel, Delivery, Incident, Postmortem, PostmortemVersion, Review, TimelineEntry
from incidents.timeline import Kind
from tests.estate import Estate
from tests.incidents.lessons import written
from tests.people import person

pytestmark = pytest.mark.django_db


@pytest.fixture
def found(alice: Person, estate: Estate) -> Postmortem:
    """As the system drafted it."""
    return written(alice)


def write(
    found: Postmortem, who: Person, body: str = "## Summary\n\nIt broke [#1].", version: int | None = None
) -> None:
    documents.save(found.incident_id, Actor(who), body, found.version if version is None else version)
    found.refresh_from_db()


def told(found: Postmortem) -> list[str]:
    rows = TimelineEntry.objects.filter(incident=found.incident_id, kind=Kind.POST_MORTEM).order_by("seq")
    return list(rows.values_list("text", flat=True))


def test_a_version_follows_the_one_that_was_read(found: Postmortem, alice: Person, bob: Person) -> None:
    write(found, alice)
    assert found.version == 2
    last = PostmortemVersion.objects.get(postmortem=found, number=2)
    assert (last.author, last.body) == (alice, "## Summary\n\nIt broke [#1].\n")
    with pytest.raises(Conflict, match="Alice saved version 2 while you wrote on version 1"):
        write(found, bob, "mine", version=1)
    assert PostmortemVersion.objects.filter(postmortem=found).count() == 2
    assert told(found)[-1] == "Post-mortem: version 2 written"
    assert Entry.objects.filter(action="postmortem.saved").count() == 1


def test_a_version_that_was_never_there_is_none(found: Postmortem, alice: Person) -> None:
    with pytest.raises(Conflict):
        write(found, alice, "mine", version=7)


@pytest.mark.parametrize(("body", "words"), [("  \n ", "empty"), ("x" * (documents.LONGEST + 1), "Shorten")])
def test_a_text_has_to_be_one(found: Postmortem, alice: Person, body: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        write(found, alice, body)


def test_the_same_text_is_no_version(found: Postmortem, alice: Person) -> None:
    same = PostmortemVersion.objects.get(postmortem=found).body
    with pytest.raises(Invalid, match="Nothing is different"):
        write(found, alice, same.replace("\n", "\r\n"))


def test_nobody_publishes_their_own_version(found: Postmortem, alice: Person, bob: Person) -> None:
    write(found, alice)
    documents.to_state(found.incident_id, Actor(alice), "review")
    with pytest.raises(Conflict, match="Somebody other than Alice"):
        documents.to_state(found.incident_id, Actor(alice), "published")
    with pytest.raises(Refused, match="You wrote this version"):
        documents.review(found.incident_id, Actor(alice), "approved", "", 2)
    documents.review(found.incident_id, Actor(bob), "approved", "clear", 2)
    done = documents.to_state(found.incident_id, Actor(alice), "published")
    assert done.state == "published"
    assert Postmortem.objects.get().published_at is not None
    assert told(found)[-3:] == [
        "Post-mortem: in review (version 2)",
        "Post-mortem: Bob approved (version 2): clear",
        "Post-mortem: published (version 2)",
    ]
    assert Entry.objects.filter(action="postmortem.state").count() == 2


def test_the_approval_of_an_older_version_does_not_count(found: Postmortem, alice: Person, bob: Person) -> None:
    documents.to_state(found.incident_id, Actor(alice), "review")
    documents.review(found.incident_id, Actor(bob), "approved", "", 1)
    write(found, alice)
    with pytest.raises(Conflict, match="Nobody has approved version 2"):
        documents.to_state(found.incident_id, Actor(alice), "published")
    documents.review(found.incident_id, Actor(bob), "approved", "", 2)
    documents.to_state(found.incident_id, Actor(alice), "published")


def test_an_approval_is_of_the_version_that_was_read(found: Postmortem, alice: Person, bob: Person) -> None:
    documents.to_state(found.incident_id, Actor(alice), "review")
    write(found, alice)
    with pytest.raises(Conflict, match="version 2 since"):
        documents.review(found.incident_id, Actor(bob), "approved", "", 1)
    assert not Review.objects.exists()


def test_whoever_approved_and_then_wrote_does_not_count(found: Postmortem, alice: Person, bob: Person) -> None:
    documents.to_state(found.incident_id, Actor(alice), "review")
    documents.review(found.incident_id, Actor(bob), "approved", "", 1)
    write(found, bob)
    with pytest.raises(Conflict):
        documents.to_state(found.incident_id, Actor(alice), "published")


def test_who_wants_changes_says_which(found: Postmortem, alice: Person, bob: Person) -> None:
    documents.to_state(found.incident_id, Actor(alice), "review")
    with pytest.raises(Invalid, match="what should change"):
        documents.review(found.incident_id, Actor(bob), "changes", " ", 1)
    documents.review(found.incident_id, Actor(bob), "changes", "name the cause", 1)
    assert Review.objects.get().comment == "name the cause"
    with pytest.raises(Conflict):
        documents.to_state(found.incident_id, Actor(alice), "published")


def test_only_what_is_handed_in_is_reviewed(found: Postmortem, bob: Person) -> None:
    with pytest.raises(Conflict, match="hand it in for review first"):
        documents.review(found.incident_id, Actor(bob), "approved", "", 1)
    with pytest.raises(Conflict, match="does not become published"):
        documents.to_state(found.incident_id, Actor(bob), "published")
    with pytest.raises(Invalid, match="not “burnt”"):
        documents.to_state(found.incident_id, Actor(bob), "burnt")


def test_who_writes_on_after_publishing_takes_it_back_to_draft(found: Postmortem, alice: Person, bob: Person) -> None:
    documents.to_state(found.incident_id, Actor(alice), "review")
    documents.review(found.incident_id, Actor(bob), "approved", "", 1)
    documents.to_state(found.incident_id, Actor(alice), "published")
    found.refresh_from_db()
    write(found, alice)
    assert (found.state, found.published_at) == ("draft", None)
    assert told(found)[-1] == "Post-mortem: version 2 written; it was published, and is a draft again"


def test_a_reviewer_is_asked_once_by_e_mail(found: Postmortem, alice: Person, bob: Person) -> None:
    Channel.objects.create(kind="email")
    Person.objects.filter(pk=bob.pk).update(email="bob@example.org")
    bob.refresh_from_db()
    documents.ask(found.incident_id, Actor(alice), bob)
    with pytest.raises(Conflict, match="has been asked already"):
        documents.ask(found.incident_id, Actor(alice), bob)
    delivery = Delivery.objects.get(channel="email")
    assert (delivery.address, delivery.purpose) == ("bob@example.org", "notice")
    assert delivery.message["url"].endswith(f"/incidents/{found.incident_id}/post-mortem")
    assert Review.objects.get().state == "asked"


def test_the_author_is_not_asked(found: Postmortem, alice: Person, bob: Person) -> None:
    write(found, alice)
    with pytest.raises(Refused, match="wrote the last version"):
        documents.ask(found.incident_id, Actor(bob), alice)


def test_an_approval_of_somebody_who_left_does_not_count(found: Postmortem, alice: Person) -> None:
    zoe = person("zoe", everywhere="operator")  # type: ignore[arg-type]
    documents.to_state(found.incident_id, Actor(alice), "review")
    documents.review(found.incident_id, Actor(zoe), "approved", "", 1)
    Person.objects.filter(pk=zoe.pk).update(is_active=False)
    with pytest.raises(Conflict):
        documents.to_state(found.incident_id, Actor(alice), "published")


def test_an_approval_of_the_author_counts_nowhere(found: Postmortem, alice: Person) -> None:
    write(found, alice)
    documents.to_state(found.incident_id, Actor(alice), "review")
    Review.objects.create(postmortem=found, person=alice, person_name="Alice", state="approved", version=2)
    with pytest.raises(Conflict, match="Somebody other than Alice"):
        documents.to_state(found.incident_id, Actor(alice), "published")


def test_the_timeline_still_verifies(found: Postmortem, alice: Person) -> None:
    write(found, alice)
    rows = TimelineEntry.objects.filter(incident=found.incident_id).order_by("seq")
    exported = [{**timeline.fields_of(entry), "hash": entry.hash} for entry in rows]
    head = Incident.objects.get(pk=found.incident_id).head_hash
    assert timeline.verify(exported, head) == len(exported)
