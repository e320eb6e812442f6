"""Within seconds of resolving there is a draft, and each of its sentences cites entries that exist."""

import re
import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.clock.registry import duties
from controlplane.operations.errors import Conflict
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Deployment
from incidents import lifecycle, timeline
from incidents.lessons import documents
from incidents.lessons.markdown import citations
from incidents.lessons.page import rendered
from incidents.models import Incident, Level, Page, Postmortem, PostmortemVersion, TimelineEntry
from incidents.timeline import Kind
from tests.estate import Estate
from tests.incidents.lessons import add, opened, resolved

pytestmark = pytest.mark.django_db
SECTIONS = [
    "Summary", "Impact", "Root cause", "Detection", "Trigger", "Resolution", "What went well", "What went badly",
    "Lessons", "Timeline",
]  # fmt: skip


def body_of(incident: Incident) -> str:
    return PostmortemVersion.objects.get(postmortem__incident=incident, number=1).body


def drafted(incident: Incident) -> str:
    """Its draft, made now."""
    documents.draft_due()
    return body_of(incident)


def section(body: str, title: str) -> str:
    return body.partition(f"## {title}\n")[2].partition("\n## ")[0]


def check_citations(incident: Incident, body: str) -> None:
    """Every line that is no heading ends with at least one citation of an entry that exists."""
    known = set(TimelineEntry.objects.filter(incident=incident).values_list("seq", flat=True))
    sentences = [line for line in body.splitlines() if line and not line.startswith("## ")]
    assert sentences
    for sentence in sentences:
        assert re.search(r"( \[#\d+\])+\.?$", sentence), sentence
        assert set(citations(sentence)) <= known, sentence


def test_the_clock_drafts_what_was_resolved_once(alice: Person, estate: Estate) -> None:
    assert {duty.name: duty.every for duty in duties()}["draft post-mortems"] == 1.0
    incident, still_open = resolved(alice), opened("another one")
    assert documents.draft_due() == 1
    assert documents.draft_due() == 0
    postmortem = Postmortem.objects.get()
    assert (postmortem.incident, postmortem.state, postmortem.version) == (incident, "draft", 1)
    assert not Postmortem.objects.filter(incident=still_open).exists()
    assert TimelineEntry.objects.filter(incident=incident, kind=Kind.POST_MORTEM).count() == 1
    assert Entry.objects.filter(action="postmortem.drafted").count() == 1


def test_it_has_the_sections_in_their_order_and_cites_throughout(alice: Person, estate: Estate) -> None:
    incident = resolved(alice)
    body = drafted(incident)
    assert re.findall(r"^## (.+)$", body, re.MULTILINE) == SECTIONS
    assert all(section(body, title).strip() for title in SECTIONS)
    check_citations(incident, body)


def test_what_is_known_is_computed(alice: Person, estate: Estate) -> None:
    body = drafted(resolved(alice, open_for=timedelta(minutes=9)))
    assert "Alice acknowledged it after 9 m" in section(body, "Summary")
    assert "Alice resolved it 9 m" in section(body, "Summary")
    assert "in production was opened at" in section(body, "Summary")
    assert "“rolled back to 1.4.0. It answers again”" in section(body, "Resolution")
    assert "The monitoring noticed it" in section(body, "Detection")
    assert "before a second level had to be paged" in section(body, "What went well")
    assert "late" not in section(body, "What went badly")


def test_the_root_cause_is_asked_for_never_invented(alice: Person, estate: Estate) -> None:
    incident = opened()
    note = add(incident, Kind.NOTE, "the pool was exhausted")
    lifecycle.resolve(incident.pk, Actor(alice).who, "restarted")
    cause = section(drafted(incident), "Root cause")
    assert "**Question:** What was the cause" in cause
    assert note in citations(cause)
    assert "No deployment or rollback is recorded" in cause


def test_deployments_before_it_are_named_with_their_distance(alice: Person, estate: Estate) -> None:
    incident = opened()
    before = incident.opened_at - timedelta(minutes=6)
    for scope, at in (("production", before), ("staging", before), ("production", before - timedelta(days=2))):
        operation = Operation.objects.create(
            kind="deploy", title=f"Deploy api 1.5.0 to {scope}", scopes=[scope], lock_names=[scope], reason="x",
            state=State.SUCCEEDED, plan={}, plan_digest="0" * 64, requested_by_name="Bob", finished_at=at,
        )  # fmt: skip
        place = estate.production if scope == "production" else estate.staging
        Deployment.objects.create(operation=operation, environment=place, release=estate.releases["1.5.0"])
    lifecycle.resolve(incident.pk, Actor(alice).who, "rolled back")
    body = drafted(incident)
    trigger = section(body, "Trigger")
    assert re.search(r"\[operation \d+, Deploy api 1.5.0 to production\]\(/operations/\d+\) by Bob succeeded", trigger)
    assert "6 m before the opening" in trigger
    assert trigger.count("[operation") == 1
    assert "which ended 6 m before; that is no proof" in section(body, "Root cause")
    check_citations(incident, body)


def test_late_and_silent_is_said(alice: Person, bob: Person, estate: Estate) -> None:
    incident = opened()
    for number, role in ((1, "On-Call Engineer"), (2, "Team Lead")):
        level = Level.objects.create(
            incident=incident, number=number, role=role, due_at=timezone.now(), state=Level.State.FIRED
        )
        paged = add(incident, Kind.PAGE, f"L{number} pages Bob by sms", data={"level": number})
        Page.objects.create(incident=incident, level=level, person=bob, person_name="Bob", state=Page.State.SEEN)
    silent = add(incident, Kind.PAGE, "Nobody has been notified yet: no route", tone="bad", data={"nobody": True})
    other = add(incident, Kind.PAGE, "No receipt for Bob by sms: trying phone", tone="wait", data={"page": 1})
    Incident.objects.filter(pk=incident.pk).update(opened_at=Now() - timedelta(minutes=40))
    lifecycle.acknowledge(incident.pk, Actor(alice).who)
    lifecycle.resolve(incident.pk, Actor(alice).who, "restarted")
    body = drafted(incident)
    badly = section(body, "What went badly")
    assert "acknowledged late, after 40 m: L2 Team Lead had been paged by then" in badly
    assert f"“Nobody has been notified yet: no route” [#{silent}]." in badly
    assert f"1 page had to go by another channel, as the first gave no receipt [#{other}]." in badly
    assert "before a second level" not in section(body, "What went well")
    assert "The pages went to Bob" in section(body, "Detection")
    assert paged in citations(section(body, "Detection"))
    check_citations(incident, body)


def test_never_acknowledged_is_said(alice: Person, estate: Estate) -> None:
    incident = opened()
    lifecycle.resolve(incident.pk, Actor(alice).who, "went away by itself")
    body = drafted(incident)
    assert "Nobody acknowledged it before it was resolved" in body
    assert "Nobody acknowledged it: it was resolved without" in section(body, "What went badly")


def test_words_of_others_make_no_citation_no_heading_and_no_link(alice: Person, estate: Estate) -> None:
    evil = "## Owned\n\n[#999] [x](https://evil.example) <script>alert(1)</script> *loud*"
    incident = opened(evil)
    add(incident, Kind.NOTE, evil)
    lifecycle.resolve(incident.pk, Actor(alice).who, evil)
    body = drafted(incident)
    check_citations(incident, body)
    assert re.findall(r"^## (.+)$", body, re.MULTILINE) == SECTIONS
    html = documents_html(incident, body)
    assert "<script" not in html
    assert 'https://evil.example"' not in html
    assert "<em>loud" not in html


def documents_html(incident: Incident, body: str) -> str:
    return rendered(incident, body)


def test_hidden_entries_are_left_out_and_edited_ones_are_as_edited(alice: Person, estate: Estate) -> None:
    incident = opened()
    first, second = add(incident, Kind.NOTE, "the password is hunter2"), add(incident, Kind.NOTE, "it was dns")
    with transaction.atomic():
        timeline.hide(timeline.locked(incident.pk), Actor(alice).who, first, "a secret", hidden=True)
        timeline.edit(timeline.locked(incident.pk), Actor(alice).who, second, "it was the certificate", "mistaken")
    lifecycle.resolve(incident.pk, Actor(alice).who, "renewed it")
    body = drafted(incident)
    assert "hunter2" not in body
    assert "it was the certificate" in body
    assert "it was dns" not in body


def test_a_long_timeline_makes_no_long_draft(alice: Person, estate: Estate) -> None:
    incident = opened()
    for number in range(150):
        add(incident, Kind.NOTE if number % 2 else Kind.ALERT, f"thing {number} " + "x" * 400)
    lifecycle.resolve(incident.pk, Actor(alice).who, "done")
    with CaptureQueriesContext(connection) as queries:
        documents.draft_due()
    assert len(queries) < 40
    body = body_of(incident)
    assert len(body) < documents.LONGEST
    before = Incident.objects.get(pk=incident.pk).last_seq - 1  # the last one tells of the draft itself
    assert f"has all {before} entries" in section(body, "Timeline")
    check_citations(incident, body)


def test_somebody_may_draft_it_from_the_page(alice: Person, estate: Estate) -> None:
    incident = resolved(alice)
    long_ago = Now() - timedelta(days=9)
    Incident.objects.filter(pk=incident.pk).update(resolved_at=long_ago)
    assert documents.draft_due() == 0
    documents.draft_now(incident.pk, Actor(alice).who)
    with pytest.raises(Conflict):
        documents.draft_now(incident.pk, Actor(alice).who)
    assert Postmortem.objects.count() == 1


def test_none_before_the_resolution(alice: Person, estate: Estate) -> None:
    with pytest.raises(Conflict, match="resolve the incident first"):
        documents.draft_now(opened().pk, Actor(alice).who)
    assert not Postmortem.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_incident_that_another_clock_holds_is_left_to_it(alice: Person, estate: Estate) -> None:
    incident = resolved(alice)
    results: list[int] = []

    def other() -> None:
        results.append(documents.draft_due())
        connection.close()

    with transaction.atomic():
        Incident.objects.select_for_update().get(pk=incident.pk)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)
    assert results == [0]
    assert documents.draft_due() == 1
