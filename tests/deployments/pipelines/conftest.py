from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from controlplane.accounts.models import Role
from deployments.models import Pipeline
from deployments.pipelines import identity
from deployments.pipelines.keys import Keys
from tests.deployments.pipelines.issuer import AUDIENCE, REPOSITORY, Issuer, serve
from tests.estate import Estate
from tests.people import person


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """An issuer that answers, of which this process knows nothing yet."""
    one = Issuer("")
    monkeypatch.setattr(identity, "keys", Keys())
    with serve(one) as served:
        one.url = served.url
        yield one


MakeRule = Callable[..., Pipeline]


@pytest.fixture
def rule(issuer: Issuer, estate: Estate) -> Pipeline:
    """Main of the repository may report releases of the API and deploy them to staging and production."""
    return make_rule(issuer.url, position=1)


def make_rule(url: str, slug: str = "backend", **changes: Any) -> Pipeline:
    """A rule, with its person and their roles."""
    values: dict[str, Any] = {
        "issuer": url, "audience": AUDIENCE, "keys_url": f"{url}/.well-known/jwks", "repository": REPOSITORY,
        "refs": ["refs/heads/main", "refs/tags/v*"], "events": ["push", "workflow_dispatch"], "services": ["api"],
        "environments": ["staging", "production"], **changes,
    }  # fmt: skip
    somebody = person(f"pipeline-{slug}", **dict.fromkeys(values["environments"], Role.OPERATOR))
    return Pipeline.objects.create(slug=slug, person=somebody, **values)


class Run:
    """What a workflow run sends: each call with a token of its own, unless it is given one."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.client = Client(raise_request_exception=False)

    def get(self, path: str, token: str = "", **claims: Any) -> Any:
        headers = {"Authorization": f"Bearer {token or self.issuer.token(**claims)}"}
        return self.client.get(f"/api/v1/{path}", headers=headers)

    def post(self, path: str, body: Any, token: str = "", key: str = "", **claims: Any) -> Any:
        headers = {"Authorization": f"Bearer {token or self.issuer.token(**claims)}"}
        headers |= {"Idempotency-Key": key} if key else {}
        return self.client.post(f"/api/v1/{path}", body, content_type="application/json", headers=headers)

    def report(self, version: str = "2.0.0", token: str = "", key: str = "", claims: Any = None, **body: Any) -> Any:
        told = {"service": "api", "version": version, "image": "registry/api", "digest": "sha256:" + "2" * 64, **body}
        return self.post("releases", told, token, key, **(claims or {}))

    def deploy(self, environment: str = "production", version: str = "1.5.0", **more: Any) -> Any:
        body = {"service": "api", "environment": environment, "version": version, "reason": "build 1001"}
        return self.post("deployments", body, **more)


@pytest.fixture
def run(issuer: Issuer, rule: Pipeline) -> Run:
    """A run of the repository that the rule is for."""
    return Run(issuer)
