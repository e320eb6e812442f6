"""What no single view should have to remember."""

from itertools import chain
from typing import ClassVar

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin


class SecurityHeadersMiddleware(MiddlewareMixin):
    """Turns off browser features no page uses, and keeps answers out of every cache.

    Each answer of the control plane is one person's: after signing out, the back button must not show it.
    A view that sets its own Cache-Control keeps it.
    """

    features: ClassVar[tuple[str, ...]] = ("camera", "geolocation", "microphone", "payment", "usb")

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault("Permissions-Policy", ", ".join(f"{name}=()" for name in self.features))
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        return response


class RefuseNulMiddleware(MiddlewareMixin):
    """Answers 400 to a NUL in the address, a cookie or the form of a page: PostgreSQL has no text with one.

    The API's schemas say the same of its addresses and bodies, as problems.
    """

    def process_request(self, request: HttpRequest) -> None:
        if request.path.startswith("/api/"):
            return
        forms = [request.GET, request.POST] if request.method == "POST" else [request.GET]
        fields = (value for form in forms for name, values in form.lists() for value in (name, *values))
        if any("\0" in text for text in chain([request.path], request.COOKIES.values(), fields)):
            raise BadRequest("The request contains a NUL character, which no text here can have.")
