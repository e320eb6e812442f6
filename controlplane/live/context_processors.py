"""What a page says of the news when it asks for its stream."""

from django.http import HttpRequest

from controlplane.live.requests import HEARD


def heard(request: HttpRequest) -> dict[str, object]:
    """`heard` for templates: how far the news had been heard when the page was asked for, "" where nobody can say."""
    return {"heard": getattr(request, "scope", {}).get(HEARD, "")}
