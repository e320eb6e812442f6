"""The pages of people, for administrators: who there is, what they may do, and the end of it."""

from django.contrib import messages
from django.contrib.auth.tokens import default_token_generator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from controlplane.accounts import services
from controlplane.accounts.access import Actor, actor_of, require, signed_in
from controlplane.accounts.forms import DeleteForm, PersonForm, ReasonForm, RolesForm
from controlplane.accounts.models import EVERYWHERE, Person, Role
from controlplane.accounts.scopes import known_scopes

AT_MOST = 200


def _admin(request: HttpRequest, what: str) -> Actor:
    """The administrator who asks. Raises PermissionDenied for anybody else, and records it."""
    actor = actor_of(request)
    require(actor, Role.ADMIN, [], what)
    return actor


@signed_in
@require_GET
def people(request: HttpRequest) -> HttpResponse:
    """Everybody, with what they may do where."""
    _admin(request, "people")
    q = request.GET.get("q", "").strip()[:150].replace("\0", "")
    found = Person.objects.filter(Q(username__icontains=q) | Q(first_name__icontains=q) | Q(last_name__icontains=q))
    shown = list(found.order_by("-is_active", "username").prefetch_related("grants")[: AT_MOST + 1])
    scopes = [EVERYWHERE, *sorted({*known_scopes(), *(g.scope for p in shown for g in p.grants.all())} - {EVERYWHERE})]
    rows = [
        (person, [next((g.role for g in person.grants.all() if g.scope == scope), "") for scope in scopes])
        for person in shown[:AT_MOST]
    ]
    context = {"rows": rows, "scopes": scopes, "q": q, "more": len(shown) > AT_MOST}
    return render(request, "accounts/people.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Add somebody; their page then gives them roles and a way in."""
    actor = _admin(request, "add a person")
    form = PersonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = services.add_person(**form.cleaned_data, who=actor.who)
        except services.PeopleError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{made} is known now. Give them a role, and a link to set their password.")
            return redirect("person", made.pk)
    return render(request, "accounts/add.html", {"form": form}, status=422 if form.errors else 200)


@signed_in
@require_GET
def person(request: HttpRequest, pk: int) -> HttpResponse:
    """One person."""
    _admin(request, f"person number {pk}")
    return _page(request, get_object_or_404(Person, pk=pk))


def _page(request: HttpRequest, somebody: Person, status: int = 200, **given: object) -> HttpResponse:
    """The page; `given` takes the place of the empty forms, or says what went wrong."""
    context = {
        "somebody": somebody,
        "oneself": somebody == request.user,
        "tokens": somebody.tokens.filter(revoked_at=None).order_by("-pk"),
        "roles_form": _roles_form(somebody),
        "link_form": ReasonForm(suffix="_link"),
        "state_form": ReasonForm(suffix="_state"),
        "delete_form": DeleteForm(person=somebody, suffix="_delete"),
    }
    return render(request, "accounts/person.html", context | given, status=status)


def _roles_form(somebody: Person, data: QueryDict | None = None) -> RolesForm:
    held = dict(somebody.grants.values_list("scope", "role"))
    return RolesForm(data, scopes=known_scopes(), held=held, suffix="_roles")


@signed_in
@require_POST
def roles(request: HttpRequest, pk: int) -> HttpResponse:
    """Give exactly the roles that were chosen."""
    actor = _admin(request, f"roles of person number {pk}")
    somebody = get_object_or_404(Person, pk=pk)
    form = _roles_form(somebody, request.POST)
    if not form.is_valid():
        return _page(request, somebody, 422, roles_form=form)
    try:
        services.set_grants(somebody, form.grants(), actor.who, form.cleaned_data["reason"])
    except services.PeopleError as error:
        return _page(request, somebody, 409, roles_form=form, problem=str(error))
    messages.success(request, f"The roles of {somebody} are as chosen, from now on.")
    return redirect("person", pk)


@signed_in
@require_POST
def state(request: HttpRequest, pk: int) -> HttpResponse:
    """Deactivate somebody (`to=deactivated`), or activate them again (`to=active`)."""
    actor = _admin(request, f"state of person number {pk}")
    somebody = get_object_or_404(Person, pk=pk)
    form = ReasonForm(request.POST, suffix="_state")
    if not form.is_valid():
        return _page(request, somebody, 422, state_form=form)
    changes = {"active": services.activate, "deactivated": services.deactivate}
    change = changes.get(request.POST.get("to", ""))
    if change is None:
        return _page(request, somebody, 422, state_form=form, problem="Say whether to activate or to deactivate them.")
    try:
        change(somebody, actor.who, form.cleaned_data["reason"])
    except services.PeopleError as error:
        return _page(request, somebody, 409, state_form=form, problem=str(error))
    return redirect("person", pk)


@signed_in
@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete somebody; histories keep the name."""
    actor = _admin(request, f"delete person number {pk}")
    somebody = get_object_or_404(Person, pk=pk)
    form = DeleteForm(request.POST, person=somebody, suffix="_delete")
    if not form.is_valid():
        return _page(request, somebody, 422, delete_form=form)
    try:
        services.delete_person(somebody, actor.who, form.cleaned_data["reason"])
    except services.PeopleError as error:
        return _page(request, somebody, 409, delete_form=form, problem=str(error))
    messages.success(request, f"{somebody} was deleted. Every history keeps the name.")
    return redirect("people")


@signed_in
@require_POST
@never_cache
def password_link(request: HttpRequest, pk: int) -> HttpResponse:
    """Make a link with which the person sets a password, once; nobody else needs to know it."""
    actor = _admin(request, f"password of person number {pk}")
    somebody = get_object_or_404(Person, pk=pk)
    form = ReasonForm(request.POST, suffix="_link")
    if not form.is_valid():
        return _page(request, somebody, 422, link_form=form)
    services.record_password_link(somebody, actor.who, form.cleaned_data["reason"])
    key = urlsafe_base64_encode(force_bytes(somebody.pk))
    address = reverse("password-set", args=[key, default_token_generator.make_token(somebody)])
    return _page(request, somebody, link=request.build_absolute_uri(address))
