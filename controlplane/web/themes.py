"""Light, dark, or as the reader's system says; kept in a cookie, so the first byte has the right colours."""

from enum import StrEnum

from django.http import HttpRequest, HttpResponse

COOKIE = "theme"
ONE_YEAR = 365 * 24 * 3600


class Theme(StrEnum):
    AUTO = "auto"
    LIGHT = "light"
    DARK = "dark"


def chosen_theme(request: HttpRequest) -> Theme:
    value = request.COOKIES.get(COOKIE, "")
    return Theme(value) if value in set(Theme) else Theme.AUTO


def remember_theme(response: HttpResponse, theme: Theme) -> None:
    """Readable by theme.js on purpose: it switches without a reload."""
    response.set_cookie(COOKIE, theme, max_age=ONE_YEAR, samesite="Lax")
