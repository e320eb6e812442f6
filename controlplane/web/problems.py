"""What went wrong, as programs read it: application/problem+json (RFC 9457), in words for a person."""

from http import HTTPStatus

from django.http import HttpResponse
from pydantic import BaseModel
from pydantic_core import to_json

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """What is wrong with one field. field: dotted, as in "body.version"."""

    field: str
    message: str


class Problem(BaseModel):
    """Why a request was not carried out. detail: what happened and what to do, for a person."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError]


def problem(status: int, detail: str, errors: list[FieldError] | None = None) -> HttpResponse:
    """The answer that says so."""
    told = Problem(
        type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or []
    )
    return HttpResponse(to_json(told), status=status, content_type=MEDIA_TYPE)


def problems(*statuses: int) -> dict[int, type[Problem]]:
    """For the description of a route: how it may end badly. 400, 401 and 503 are possible everywhere."""
    return dict.fromkeys(sorted({400, 401, 503, *statuses}), Problem)
