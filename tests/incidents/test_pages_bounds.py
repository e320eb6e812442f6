"""The incident's page with 100,000 entries, alerts of a storm, and many incidents: as quick as with a few."""

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.models import Person
from incidents.models import Incident
from tests.estate import Estate
from tests.incidents.lessons import opened

pytestmark = pytest.mark.django_db
MANY = 100_000
# Their hashes are none: only the page is looked at.
ENTRIES = """
    INSERT INTO incidents_timelineentry
        (incident_id, seq, at, recorded_at, kind, tone, text, actor, data, previous_hash, hash)
    SELECT %s, n, now() + n * interval '1 second', now(), (ARRAY['alert', 'note', 'page', 'edit'])[1 + n %% 4], 'idle',
        'entry ' || n, 'Alice', '{}', '', '' FROM generate_series(%s, %s) AS n
"""
INCIDENTS = """
    INSERT INTO incidents_incident (title, severity, impact, urgency, state, phase, environments, group_key, opened_at,
        opened_by_name, acknowledged_by_name, resolved_at, resolved_by_name, resolution, alert_count, firing_count,
        unsaid, policy, last_seq, head_hash)
    SELECT 'incident ' || n, 'P2', 'high', 'medium', 'resolved', 'post-mortem', '{production}', '', now(), 'Alice', '',
        now(), 'Alice', 'restarted', 0, 0, '{}', '{}', 0, '' FROM generate_series(1, %s) AS n
"""


def asked(client: Client, path: str) -> tuple[int, int, str]:
    """Queries, bytes, text."""
    with CaptureQueriesContext(connection) as caught:
        answer = client.get(path)
    assert answer.status_code == 200
    return len(caught), len(answer.content), answer.content.decode()


def test_the_first_screen_of_a_long_timeline_is_like_that_of_a_short_one(
    client: Client, estate: Estate, dana: Person
) -> None:
    incident = opened()
    client.force_login(dana)
    with connection.cursor() as cursor:
        cursor.execute(ENTRIES, [incident.pk, 1_000, 1_150])
    few = asked(client, incident.get_absolute_url())
    with connection.cursor() as cursor:
        cursor.execute(ENTRIES, [incident.pk, 1_151, MANY])
        cursor.execute("ANALYZE incidents_timelineentry")
    many = asked(client, incident.get_absolute_url())
    assert few[0] == many[0] <= 20
    assert many[1] < 100_000
    assert len(re.findall(r'<li id="entry-', many[2])) == 100
    earlier = re.search(r'rel="prev" href="([^"]+)"', many[2])
    assert earlier is not None
    further = asked(client, incident.get_absolute_url() + earlier[1].replace("&amp;", "&"))
    assert further[0] <= many[0] + 1
    assert len(re.findall(r'<li id="entry-', further[2])) == 100
    assert not set(re.findall(r'id="entry-(\d+)"', many[2])) & set(re.findall(r'id="entry-(\d+)"', further[2]))


def test_a_filter_shows_only_its_kind(client: Client, estate: Estate, dana: Person) -> None:
    incident = opened()
    client.force_login(dana)
    with connection.cursor() as cursor:
        cursor.execute(ENTRIES, [incident.pk, 1_000, 1_007])
    _, _, text = asked(client, f"{incident.get_absolute_url()}?kind=note")
    assert set(re.findall(r"entry 1\d{3}", text)) == {"entry 1001", "entry 1005"}
    _, _, text = asked(client, f"{incident.get_absolute_url()}?kind=nonsense")
    assert "Opened as P1" in text


def test_the_list_is_read_page_by_page(client: Client, estate: Estate, dana: Person) -> None:
    client.force_login(dana)
    with connection.cursor() as cursor:
        cursor.execute(INCIDENTS, [120])
    queries, size, text = asked(client, "/incidents")
    assert queries <= 20
    assert size < 100_000
    seen = re.findall(r'href="/incidents/(\d+)"', text)
    assert len(seen) == 50
    older = re.search(r'href="(\?before=\d+)"', text)
    assert older is not None
    again = re.findall(r'href="/incidents/(\d+)"', asked(client, f"/incidents{older[1]}")[2])
    assert len(again) == 50
    assert not set(seen) & set(again)


def test_open_ones_come_first_by_severity_and_age(client: Client, estate: Estate, dana: Person) -> None:
    expected = [opened(title=title, severity=severity).title for title, severity in
                (("first P1", "P1"), ("second P1", "P1"), ("a P3", "P3"))]  # fmt: skip
    opened(title="a P4", severity="P4")
    Incident.objects.filter(title="a P3").update(severity="P2")
    client.force_login(dana)
    text = asked(client, "/incidents")[2]
    places = [text.index(title) for title in (*expected, "a P4")]
    assert places == sorted(places)


def test_other_peoples_incidents_are_not_listed(client: Client, estate: Estate, eve: Person) -> None:
    opened(title="only for production")
    client.force_login(eve)
    assert "only for production" not in asked(client, "/incidents")[2]
