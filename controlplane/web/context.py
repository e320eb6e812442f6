"""What every template knows."""

from django.http import HttpRequest
from django.utils import timezone

from controlplane.web.themes import Theme, chosen_theme


def site(request: HttpRequest) -> dict[str, object]:
    """The reader's theme, and the server's time (live times count from it)."""
    return {
        "theme": chosen_theme(request),
        "themes": [(theme.value, theme.value.capitalize()) for theme in Theme],
        "server_now": timezone.now(),
    }
