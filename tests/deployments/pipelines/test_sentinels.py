"""No token, webhook secret or key of a pipeline's is in anything that the control plane puts out, nor stored."""

import hashlib
import hmac
import json
import logging
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from deployments.models import CommitNotice, Pipeline
from deployments.pipelines import github, github_calls, webhooks
from environments.secrets import RememberedSecrets
from tests.deployments.outputs import Listener, answers, database, pages, where
from tests.deployments.pipelines.conftest import Run, make_rule
from tests.deployments.pipelines.issuer import REPOSITORY, RSA, SHA, Issuer, Serving
from tests.estate import Estate

pytestmark = pytest.mark.django_db(transaction=True)
HOOK, TOKEN = "sentinel-of-the-webhook-1", "sentinel-of-the-status-2"
NUMBER = "sentinel-number-of-a-token-3"


@pytest.mark.timeout(120)
def test_nothing_of_theirs_is_anywhere(  # noqa: PLR0917 (fixtures)
    issuer: Issuer, estate: Estate, data_dir: Path, ada: Person, alice: Person, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(webhooks, "_secrets", RememberedSecrets())
    monkeypatch.setattr(github_calls, "tokens", github_calls.Tokens())
    private = RSA["two"].as_pem(private=True).decode()
    (data_dir / "secrets").mkdir()
    for name, value in (("hook", HOOK), ("token", TOKEN), ("key", private)):
        (data_dir / "secrets" / name).write_text(value)

    def leaky(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 403, {}, json.dumps({"message": f"not with {headers['Authorization']}"}).encode()

    said: list[tuple[str, str]] = []
    with Serving(leaky) as served, Listener() as heard:
        make_rule(issuer.url, webhook_secret="file:hook", status={"api": served.url, "token": "file:token"})
        run = Run(issuer)
        good, used, wrong = issuer.token(jti=NUMBER), issuer.token(), issuer.token(ref="refs/heads/other")
        results = [
            run.report(token=good, ci="passed"), run.report(token=good), run.report("2.0.1", token=wrong),
            run.deploy(token=used, version="1.5.0"), run.deploy("staging", "2.0.0"),
        ]  # fmt: skip
        results += [hook({"repository": {"full_name": REPOSITORY}}, HOOK), hook({}, "another-secret")]
        said += [(f"answer {one.status_code}", one.content.decode() + str(one.headers)) for one in results]
        assert [one.status_code for one in results] == [201, 401, 401, 201, 201, 200, 401]
        assert github.tell_due() == 1 and CommitNotice.objects.get().sha == SHA
        app = {"api": served.url, "app_id": "1", "installation_id": "2", "private_key": "file:key"}
        Pipeline.objects.update(status=app)
        CommitNotice.objects.update(next_at="2020-01-01T00:00:00Z")
        assert github.tell_due() == 1 and "403" in CommitNotice.objects.get().error
        said += heard.said()
    out = StringIO()
    call_command("export", "workflow", "api", stdout=out)
    names: dict[str, Any] = {"slug": "production", "environment": "production", "service": "api", "version": "2.0.0"}
    pages_of = [(names | {"pk": one, "operation_id": one}) for one in Operation.objects.values_list("pk", flat=True)]
    found = [
        *said, ("export", out.getvalue()), *database(),
        *chain.from_iterable(chain(pages(ada, one), answers(ada, one)) for one in pages_of),
        *((f"log {record.name}", logging.Formatter().format(record)) for record in caplog.records),
    ]  # fmt: skip
    parts = [part for token in (good, used, wrong) for part in token.split(".")[1:]]
    for secret in (HOOK, TOKEN, NUMBER, *private.splitlines()[1:4], *parts):
        assert where(secret, iter(found)) == [], secret[:20]
    # The search would find them: what the runs said of themselves is found.
    assert {place.partition(" ")[0] for place in where("octocat", iter(found))} >= {"table", "page", "API"}


def hook(told: Any, secret: str) -> Any:
    body = json.dumps(told).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": "1", "X-GitHub-Event": "ping"}
    path = "/api/v1/webhooks/github/backend"
    return Client(raise_request_exception=False).generic("POST", path, body, "application/json", headers=headers)
