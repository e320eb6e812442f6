"""The search through everything that is put out finds what is there, so that finding nothing means something."""

import json
from base64 import b64encode
from typing import Any

import pytest
import redis
from django.conf import settings

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.accounts.streams import authenticate
from controlplane.live.ring import ring
from controlplane.operations import engine
from deployments.services import request_deployment
from incidents.lifecycle import open_incident
from incidents.models import Severity
from tests.deployments.outputs import Listener, downloads, live, page, signed_in, streamed, where
from tests.estate import Estate
from tests.live.conftest import Web

SECRET = "sentinel/passwörd+1?x"


def celery(before: str) -> str:
    """A message as it waits for a worker."""
    body = b64encode(json.dumps([[before, SECRET], {}, {}]).encode()).decode()
    return json.dumps({"body": body, "properties": {"body_encoding": "base64"}})


STORED = {
    "as it is": SECRET,
    "as Redis would compress it": f"{SECRET[:12]} and {SECRET[8:]} in {SECRET}",
    **{f"to a worker, {count} further": celery("x" * count) for count in range(3)},
}
COMMANDS = ["SET {}", "RPUSH {}", "SADD {}", "HSET {} field", "ZADD {} 1", "XADD {} * field"]


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_what_redis_keeps_is_found(stored: str) -> None:
    client: Any = redis.Redis.from_url(settings.REDIS_URL)
    keys = {command.format(f"a-test-{number}"): f"a-test-{number}" for number, command in enumerate(COMMANDS)}
    try:
        with Listener() as heard:
            client.publish("a-channel", stored)
            for command in keys:
                client.execute_command(*command.split(), stored)
        assert set(where(SECRET, heard.said())) == {"ring 0", *(f"key {key.encode()!r}" for key in keys.values())}
    finally:
        client.delete(*keys.values())


@pytest.mark.timeout(120)
@pytest.mark.django_db(transaction=True)
def test_files_and_streams_are_found(estate: Estate, alice: Person, ada: Person) -> None:
    reason = f"because of {SECRET}"
    incident, _ = open_incident(Actor(alice).who, title=reason, severity=Severity.P3, environments=["staging"])
    release = estate.releases["1.6.0"]
    operation = request_deployment(Actor(alice), environment=estate.staging, release=release, reason=reason)
    engine.run(operation.pk, "w1")
    found = list(downloads(ada, incident))
    assert all(" (200)" in place for place, _ in found)
    places = where(SECRET, iter(found))
    assert {place.partition(".")[0] for place in places} == {
        "download /audit", f"download /incidents/{incident.pk}/timeline",
    }  # fmt: skip
    assert sum("alert-rules" in place for place, _ in found) == 2
    assert where(SECRET, iter([page(signed_in(ada), operation.get_absolute_url())]))
    with Web(authenticate) as web:
        said = list(streamed(web.port, ada, f"/live/operations/{operation.pk}?after=0&as=html"))
        assert said[-1][1].startswith("end")
        assert where("1.6.0", iter(said))
        news = live(web.port, ada, "/live/news")
        ring("news", f"x{SECRET}")
        assert news.until_news(f"x{SECRET}")
        news.close()
