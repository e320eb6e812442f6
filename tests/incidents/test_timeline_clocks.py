"""Several clocks that read the audit trail at the same moment write each operation once, and the chain holds."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connections

from controlplane.accounts.models import Person
from incidents import noting, timeline
from incidents.models import Incident, NotedUpTo
from tests.estate import Estate
from tests.incidents.lessons import opened
from tests.incidents.test_timeline_operations import asked, ended

CLOCKS = 4


@pytest.mark.django_db(transaction=True)
def test_each_once(alice: Person, estate: Estate) -> None:
    noting.note_new()
    incidents = [opened(severity="P2", title=f"incident {number}") for number in range(3)]
    for _ in range(5):
        ended(asked(alice, estate))
    before = NotedUpTo.objects.get().entry
    together = Barrier(CLOCKS)

    def clock(_: int) -> int:
        try:
            together.wait(20)
            return noting.note_new()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(CLOCKS) as clocks:
        assert sum(clocks.map(clock, range(CLOCKS))) >= 13
    for incident in Incident.objects.filter(pk__in=[one.pk for one in incidents]):
        said = [row["audit"] for row in incident.timeline.filter(data__has_key="audit").values_list("data", flat=True)]
        assert len(said) == len(set(said)) == 10
        rows = [timeline.fields_of(one) | {"hash": one.hash} for one in incident.timeline.order_by("seq")]
        assert timeline.verify(rows, incident.head_hash) == incident.last_seq
    assert NotedUpTo.objects.get().entry > before
    assert noting.note_new() == 0
