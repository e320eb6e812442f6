"""Where a form that names the page it stands on (`next`) leads back to: a page of ours, and nowhere else."""

from django.http import HttpRequest, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme


def way_back(request: HttpRequest) -> str:
    """The path that the request names, "" for none and for whatever is not a path of this site."""
    back = request.POST.get("next", request.GET.get("next", ""))
    return back if back.startswith("/") and url_has_allowed_host_and_scheme(back, None) else ""


def go_back(request: HttpRequest, otherwise: str) -> HttpResponseRedirect:
    """To the page that the form stood on. otherwise: the path to go to when it names none."""
    return HttpResponseRedirect(way_back(request) or otherwise)
