"""The chart of the demo's customers on the recovery pages: whoever sees the plan sees it, and it renews itself."""

import json
import re
import time
from pathlib import Path

import pytest
from django.test import Client

from backups.models import RecoveryPlan
from controlplane.accounts.models import Person
from tests.disaster.paper import plan
from tests.disaster.runs import asked, drilled

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def local(plan: RecoveryPlan, data_dir: Path) -> RecoveryPlan:
    """Its people go by the local name switch, and customers were there a moment ago."""
    plan.traffic = {"kind": "local", "name": "api.pitchey.com"}
    plan.save()
    (data_dir / "clients").mkdir()
    now = int(time.time())
    lines = [
        {"at": now - 5 - n, "ok": {"production": 5}, "failed": {"": 1}, "words": "it <b>hurts</b>"} for n in range(3)
    ]
    (data_dir / "clients" / "seconds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    return plan


def get(client: Client, person: Person, path: str) -> tuple[int, str]:
    client.force_login(person)
    answer = client.get(path)
    return answer.status_code, answer.content.decode()


def test_the_plan_s_page_shows_it_and_it_renews_itself(client: Client, dana: Person, local: RecoveryPlan) -> None:
    status, said = get(client, dana, local.get_absolute_url())
    assert status == 200
    assert "15 orders at production" in said and "3 failed" in said
    again = re.search(r'<figure id="_pulse-[^"]+"[^>]+hx-get="([^"]+)" hx-trigger="every 2s"', said)
    assert again
    status, alone = get(client, dana, again[1])
    assert status == 200
    assert alone.startswith("<figure") and "15 orders at production" in alone and "<html" not in alone
    assert "it &lt;b&gt;hurts&lt;/b&gt;" in alone


def test_whoever_does_not_see_the_plan_does_not_see_its_customers(
    client: Client, charlie: Person, local: RecoveryPlan
) -> None:
    assert get(client, charlie, f"{local.get_absolute_url()}/pulse")[0] in (403, 404)


def test_a_plan_of_another_kind_of_traffic_has_no_customers(client: Client, dana: Person, plan: RecoveryPlan) -> None:
    status, said = get(client, dana, plan.get_absolute_url())
    assert (status, "pulse-chart" in said) == (200, False)
    assert get(client, dana, f"{plan.get_absolute_url()}/pulse")[0] == 404


def test_a_failover_s_page_shows_how_customers_take_it_and_a_drill_s_does_not(
    client: Client, dana: Person, alice: Person, local: RecoveryPlan
) -> None:
    drill = drilled(local, seconds=5)
    assert get(client, dana, f"/recovery/runs/{drill.operation_id}")[0] == 200
    assert "pulse-chart" not in get(client, dana, f"/recovery/runs/{drill.operation_id}")[1]
    failover = asked(alice, local)
    status, said = get(client, dana, f"/recovery/runs/{failover.pk}")
    assert (status, "pulse-chart" in said) == (200, True)
