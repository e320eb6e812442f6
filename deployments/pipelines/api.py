"""Where GitHub's webhooks knock. They know no token: the signature of the body says who sends."""

import re
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Path, Router
from ninja.security import APIKeyHeader
from pydantic import BaseModel
from pydantic_core import to_json

from controlplane.accounts.programs import NotBelieved
from controlplane.operations.answers import STATUS
from controlplane.operations.errors import OperationError
from controlplane.web.bodies import Slug
from controlplane.web.problems import problem, problems
from deployments.models import Pipeline
from deployments.pipelines.webhooks import Delivery, is_signed, take

router = Router(tags=["pipelines"])

NUMBER, EVENT = "X-GitHub-Delivery", "X-GitHub-Event"
NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
LONGEST = {NUMBER: 100, EVENT: 60}
UNSIGNED = (
    "No used pipeline of this name has a webhook_secret with which this body was signed; "
    "X-Hub-Signature-256 says sha256= and the HMAC of the body."
)


def _header(name: str, words: str) -> dict[str, Any]:
    return {"in": "header", "name": name, "required": True, "description": words, "schema": {"type": "string"}}


HEADERS = {
    "parameters": [
        _header(NUMBER, "The number of the delivery: the same one again gets the same answer and does nothing."),
        _header(EVENT, "What it tells of: ping, push, workflow_run, registry_package or package."),
    ]
}


class DeliveryOut(BaseModel):
    """said: what was made of it, in words. releases: those it concerns."""

    event: str
    said: str
    releases: list[str]


class SignedRequest(HttpRequest):
    """A request that passed `Signature`."""

    auth: Pipeline


class Signature(APIKeyHeader):
    """X-Hub-Signature-256: sha256=…"""

    param_name = "X-Hub-Signature-256"

    def authenticate(self, request: HttpRequest, key: str | None) -> Pipeline:
        """The pipeline that the address names, if the body is signed with its secret.

        Raises NotBelieved, whatever of the two is wrong, and CannotTell.
        """
        match = request.resolver_match
        slug = str(match.kwargs.get("pipeline", "")) if match else ""
        # Who knocks is asked before the address is held against its schema, and PostgreSQL takes no NUL.
        rules = Pipeline.objects.filter(slug=slug, paused=False).exclude(webhook_secret="")
        pipeline = rules.first() if key and NAME.fullmatch(slug) else None
        if pipeline is None or not is_signed(pipeline, request.body, key or ""):
            raise NotBelieved(UNSIGNED)
        return pipeline


@router.post(
    "/webhooks/github/{pipeline}",
    response={200: DeliveryOut, **problems(409, 413, 415, 422)},
    summary="Take a delivery of a GitHub webhook",
    openapi_extra=HEADERS,
    auth=Signature(),
)
def take_delivery(request: SignedRequest, pipeline: Annotated[Slug, Path()]) -> HttpResponse:
    """Signed by the pipeline's `webhook_secret`. 200 only once it is written down; 4xx says why it never will be."""
    if request.content_type != "application/json":
        return problem(415, "Set the webhook's content type to application/json.")
    told = {name: request.headers.get(name, "") for name in LONGEST}
    for name, value in told.items():
        if not value or len(value) > LONGEST[name] or not value.isascii() or not value.isprintable():
            return problem(422, f"The header {name} is missing or is not what GitHub sends.")
    try:
        answer = take(request.auth, Delivery(told[NUMBER], told[EVENT], request.body))
    except OperationError as error:
        return problem(STATUS[type(error)], str(error))
    return HttpResponse(to_json(DeliveryOut(**answer)), content_type="application/json")
