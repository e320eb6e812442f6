"""The API at /api/v1: its routes, who calls it, and how errors become application/problem+json."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation
from ninja.renderers import BaseRenderer
from pydantic_core import to_json

from backups.api import router as backups
from backups.disaster.api import router as recovery_plans
from backups.point_api import router as restore_points
from backups.policy_api import router as backup_policies
from controlplane.accounts.api import Token
from controlplane.accounts.programs import CannotTell, NotBelieved
from controlplane.operations.api import router as operations
from controlplane.operations.bypass_api import router as bypasses
from controlplane.operations.errors import StepError
from controlplane.operations.world_api import router as world
from controlplane.web.bodies import StrictParser, Unreadable
from controlplane.web.problems import MEDIA_TYPE, FieldError, problem
from deployments.api import router as deployments
from deployments.insight.api import router as insight
from deployments.pipelines.api import router as pipelines
from deployments.place_api import router as places
from deployments.policy_api import router as rules
from environments.api import router as environments
from incidents.alert_api import router as alerts
from incidents.api import router as incidents
from incidents.contact_api import router as contacts
from incidents.lesson_api import router as lessons
from incidents.matrix_api import router as escalation_policies
from incidents.oncall_api import router as on_call
from incidents.rule_api import router as alert_rules
from incidents.schedule_api import router as schedules

logger = logging.getLogger(__name__)

NOT_FOUND = "There is no such thing, or you may not see it."
DESCRIPTION = """Everything the pages do with releases, deployments, backups, incidents and operations, for programs.

A token (`manage.py create_token`) acts as its person, at most with its own role. Errors are
`application/problem+json`; `detail` says what happened and what to do. The live stream of an operation is
`GET /live/operations/ID?after=SEQ` (server-sent events), with the same token."""


class Renderer(BaseRenderer):
    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        """The same JSON as an answer that is kept for its Idempotency-Key."""
        return to_json(data)


class Api(NinjaAPI):
    def get_openapi_operation_id(self, operation: Operation) -> str:
        """Short, as generated clients name their functions by it."""
        return operation.view_func.__name__

    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        """The description; django-ninja gives every answer one media type, ours are two."""
        schema = super().get_openapi_schema(path_prefix=path_prefix, path_params=path_params)
        for route in schema["paths"].values():
            for operation in route.values():
                for status, answer in operation["responses"].items():
                    if status >= 400:
                        answer["content"] = {MEDIA_TYPE: answer["content"]["application/json"]}
        return schema


api = Api(
    title="Control plane",
    version="1",
    description=DESCRIPTION,
    docs_url=None,
    auth=Token(),
    parser=StrictParser(),
    renderer=Renderer(),
)
api.add_router("/operations", operations)
api.add_router("/environments", environments)
api.add_router("/world", world)
api.add_router("/break-glass", bypasses)
api.add_router("", deployments)
api.add_router("", insight)
api.add_router("", pipelines)
api.add_router("", rules)
api.add_router("", places)
api.add_router("", backups)
api.add_router("", backup_policies)
api.add_router("", restore_points)
api.add_router("", recovery_plans)
api.add_router("", incidents)
api.add_router("", alerts)
api.add_router("", lessons)
api.add_router("", alert_rules)
api.add_router("", contacts)
api.add_router("", escalation_policies)
api.add_router("", schedules)
api.add_router("", on_call)


# --- Errors -------------------------------------------------------------------------------------------


@api.exception_handler(AuthenticationError)
def _stranger(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    response = problem(401, "Send a valid token: Authorization: Bearer cp_… An expired or revoked one is not valid.")
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


@api.exception_handler(NotBelieved)
def _not_believed(request: HttpRequest, error: NotBelieved) -> HttpResponse:
    response = problem(401, str(error))
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


@api.exception_handler(CannotTell)
def _cannot_tell(request: HttpRequest, error: CannotTell) -> HttpResponse:
    return _later(str(error))


@api.exception_handler(PermissionDenied)
def _denied(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return problem(403, str(error) or "You may not do this.")


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return problem(404, NOT_FOUND)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    fields = [FieldError(field=_field(one["loc"]), message=one["msg"]) for one in error.errors]
    said = "; ".join(f"{one.field}: {one.message}" for one in fields[:5])
    return problem(422, f"Not understood: {said}.", fields)


def _field(where: tuple[str | int, ...]) -> str:
    source, *names = map(str, where)
    # The body is the argument `body` of every function.
    return ".".join([source, *names[1:]] if source == "body" else names)


@api.exception_handler(HttpError)
def _unreadable(request: HttpRequest, error: HttpError) -> HttpResponse:
    cause = error.__cause__
    if isinstance(cause, Unreadable):
        return problem(cause.status, str(cause))
    return problem(error.status_code, str(error))


@api.exception_handler(RequestDataTooBig)
def _too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return problem(413, "The body is larger than anything this API takes.")


@api.exception_handler(SuspiciousOperation)
def _suspicious(request: HttpRequest, error: SuspiciousOperation) -> HttpResponse:
    return problem(400, "The request is malformed.")


@api.exception_handler(StepError)
def _cannot_be_asked(request: HttpRequest, error: StepError) -> HttpResponse:
    words = f"The environment cannot be asked what runs there: {error}"
    return problem(409, words) if error.permanent else _later(words)


@api.exception_handler(OperationalError)
@api.exception_handler(InterfaceError)
def _no_database(request: HttpRequest, error: OperationalError | InterfaceError) -> HttpResponse:
    logger.error("the database cannot be reached: %s", error)
    return _later("The database cannot be reached. Try again in a moment.")


def _later(words: str) -> HttpResponse:
    response = problem(503, words)
    response.headers["Retry-After"] = "2"
    return response


@api.exception_handler(Exception)
def _broken(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("%s %s", request.method, request.path, exc_info=error)
    return problem(500, "Something is broken here; it was written to the log of the server.")


# --- Addresses ----------------------------------------------------------------------------------------

View = Callable[..., HttpResponseBase]


def _told(view: View) -> View:
    """The view, with what django-ninja answers before any route of ours as a problem too. No cookie, no CSRF."""

    @functools.wraps(view)
    def told(request: HttpRequest, **values: Any) -> HttpResponseBase:
        try:
            response = view(request, **values)
        except Http404:
            return problem(404, NOT_FOUND)
        if response.status_code != 405:
            return response
        refused = problem(405, f"This address takes {response.headers['Allow']}, not {request.method}.")
        refused.headers["Allow"] = response.headers["Allow"]
        return refused

    return csrf_exempt(told)


@csrf_exempt
def unknown(request: HttpRequest) -> HttpResponse:
    """Every other address below /api/."""
    return problem(404, f"There is nothing at {request.path}. /api/v1/openapi.json lists what there is.")


_patterns, _app_name, _namespace = api.urls
for _pattern in _patterns:
    if _pattern.callback is not None:
        _pattern.callback = _told(_pattern.callback)

urlpatterns = [path("v1/", (_patterns, _app_name, _namespace)), re_path("", unknown)]
