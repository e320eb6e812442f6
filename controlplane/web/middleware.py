"""Headers that no single view should have to remember."""

from typing import ClassVar

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
