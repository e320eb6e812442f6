"""A request that is sent twice has one effect and one answer.

1. A POST with an Idempotency-Key puts the row of its key first, in the transaction of its effect. A second one
   that arrives meanwhile waits for that transaction at the unique constraint.
2. The answer is kept in the row: effect and answer stand or fall together. What ended in a 5xx keeps nothing.
3. The same key with the same request gets the kept answer; with another request it is refused.

Who may do it is asked before, each time: an answer is never given to somebody who lost the role. The only lock
held meanwhile is the one on the key, which nobody else wants.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from pydantic import BaseModel
from pydantic_core import to_json

from controlplane.accounts.programs import ApiRequest
from controlplane.operations.answers import STATUS, status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.models import IdempotencyKey
from controlplane.web import problems

HEADER = "Idempotency-Key"
PATTERN = r"^[!-~]{1,200}$"

# How the routes that use it describe the header.
DESCRIPTION: dict[str, Any] = {
    "parameters": [
        {
            "in": "header",
            "name": HEADER,
            "required": False,
            "description": "The same key with the same request within 24 hours: the first answer, no second effect.",
            "schema": {"type": "string", "pattern": PATTERN},
        }
    ]
}


def answer_once(
    request: ApiRequest,
    effect: Callable[[], BaseModel],
    *,
    action: str,
    target: str,
    scopes: Sequence[str] = (),
    status: int = 200,
    look: Callable[[], None] = lambda: None,
) -> HttpResponse:
    """Bring the effect about and answer; with an Idempotency-Key, once.

    action, target, scopes: what the audit trail says was tried when a rule forbids it. status: of a good answer.
    look: asks the world for what the effect depends on, outside of any transaction; not for a request whose answer
    is kept already.
    """
    key = request.headers.get(HEADER)
    if key is None:
        look()
        response, error = _answer(effect, status)
    elif not re.fullmatch(PATTERN, key):
        return problems.problem(422, f"{HEADER} must be 1 to 200 visible ASCII characters.")
    else:
        if not IdempotencyKey.objects.filter(person=request.auth.person, key=key).exists():
            look()
        response, error = _kept(request, key, effect, status)
    if error is not None:
        status_of(error, request.auth, action, target, list(scopes))
    return response


def _answer(effect: Callable[[], BaseModel], status: int) -> tuple[HttpResponse, OperationError | None]:
    try:
        return _response(to_json(effect()), status), None
    except OperationError as error:
        return problems.problem(STATUS[type(error)], str(error)), error


def _kept(
    request: ApiRequest, key: str, effect: Callable[[], BaseModel], status: int
) -> tuple[HttpResponse, OperationError | None]:
    fingerprint = _fingerprint(request)
    with transaction.atomic():
        kept, first = IdempotencyKey.objects.get_or_create(
            person=request.auth.person, key=key, defaults={"fingerprint": fingerprint}
        )
        if not first and kept.fingerprint != fingerprint:
            return problems.problem(422, f"This {HEADER} was used for another request. Use a new one."), None
        if not first:
            return _response(kept.answer.encode(), kept.status), None
        response, error = _answer(effect, status)
        kept.status, kept.answer = response.status_code, response.content.decode()
        kept.save(update_fields=["status", "answer"])
    return response, error


def _response(body: bytes, status: int) -> HttpResponse:
    media_type = problems.MEDIA_TYPE if status >= 400 else "application/json"
    return HttpResponse(body, status=status, content_type=media_type)


def _fingerprint(request: HttpRequest) -> str:
    head = f"{request.method} {request.get_full_path()}\n"
    return hashlib.sha256(head.encode() + request.body).hexdigest()
