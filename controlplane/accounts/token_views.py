"""The page of API tokens: everybody's own; administrators see all."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.forms import ReasonForm, TokenForm
from controlplane.accounts.models import ApiToken, Role, roles_of, strongest
from controlplane.accounts.tokens import create_token, revoke
from controlplane.audit.record import record_denied

AT_MOST = 200


@signed_in
@require_http_methods(["GET", "POST"])
@never_cache
def tokens(request: HttpRequest) -> HttpResponse:
    """One's tokens, and a new one, whose text is shown this once: so the answer is a page and not a redirect."""
    actor = actor_of(request)
    form = TokenForm(request.POST or None, roles=_roles(actor))
    plaintext = ""
    if request.method == "POST" and form.is_valid():
        said = form.cleaned_data
        lifetime = said["lifetime_days"]
        _, plaintext = create_token(actor.person, said["name"], Role(said["role"]), lifetime, actor.who)
        form = TokenForm(roles=_roles(actor))
    return _page(request, actor, form, plaintext)


def _page(request: HttpRequest, actor: Actor, form: TokenForm, plaintext: str = "", problem: str = "") -> HttpResponse:
    newest = ApiToken.objects.select_related("person").order_by("-pk")
    context = {
        "form": form,
        "plaintext": plaintext,
        "problem": problem,
        "own": newest.filter(person=actor.person)[:AT_MOST],
        "others": newest.exclude(person=actor.person)[:AT_MOST] if actor.is_admin else [],
        "now": timezone.now(),
    }
    return render(request, "accounts/tokens.html", context, status=422 if form.errors or problem else 200)


def _roles(actor: Actor) -> list[Role]:
    """Up to the strongest that this person has anywhere; a token cannot hold more anyway."""
    return [role for role in Role if strongest(roles_of(actor.person).values()).includes(role)]


@signed_in
@require_POST
def token_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """End a token: one's own, or, with a reason, as an administrator anybody's."""
    actor = actor_of(request)
    token = get_object_or_404(ApiToken.objects.select_related("person"), pk=pk)
    own = token.person == actor.person
    if not own and not actor.is_admin:
        record_denied(actor.who, "access.denied", str(token), reason="It is somebody else's token.")
        raise Http404
    form = ReasonForm(request.POST)
    form.fields["reason"].required = not own
    if not form.is_valid():
        words = f"Say why you revoke {token}: its owner will want to know."
        return _page(request, actor, TokenForm(roles=_roles(actor)), problem=words)
    revoke(token, actor.who, form.cleaned_data["reason"])
    messages.success(request, f"The {token} is refused from now on.")
    return redirect("tokens")
