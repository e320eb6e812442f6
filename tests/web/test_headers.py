"""Every answer keeps out of caches and switches off what no page uses."""

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from controlplane.web.middleware import SecurityHeadersMiddleware


def answer(response: HttpResponse) -> HttpResponse:
    def view(_request: HttpRequest) -> HttpResponse:
        return response

    result = SecurityHeadersMiddleware(view)(RequestFactory().get("/"))
    assert isinstance(result, HttpResponse)
    return result


@pytest.mark.parametrize("feature", ["camera", "geolocation", "microphone"])
def test_features_are_off(feature: str) -> None:
    assert f"{feature}=()" in answer(HttpResponse())["Permissions-Policy"]


def test_nothing_is_cached() -> None:
    assert answer(HttpResponse())["Cache-Control"] == "no-store"


def test_a_view_may_say_otherwise() -> None:
    assert answer(HttpResponse(headers={"Cache-Control": "max-age=60"}))["Cache-Control"] == "max-age=60"
