"""Whom one calls outside, and how people are reached, for programs: the same functions as the pages call."""

from typing import Annotated, Any, Literal

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Router
from pydantic import BaseModel, Field, StringConstraints

from backups.asking import refused
from controlplane.accounts.access import Actor, require
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Person, Role
from controlplane.operations.api import ACTING, Digest
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Reason, Slug
from controlplane.web.problems import problems
from incidents import matrix_reach
from incidents.matrix_forms import ReachForm
from incidents.models import Contact
from incidents.oncall.access import look
from incidents.runbook import services
from incidents.runbook.access import load_contact, require_any_role
from incidents.runbook.forms import ContactForm

router = Router(tags=["incidents"])

AT_MOST = 100
CONTACT = "/contacts/{slug:contact}"
REACH = "/contact-methods/{username}"
ChannelIs = Literal["slack", "email", "phone", "sms", "webhook"]
Username = Annotated[str, StringConstraints(pattern=r"^[^\x00/]{1,150}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
Phone = Annotated[str, StringConstraints(max_length=60, pattern=r"^[^\x00]*$")]
Line = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00]*$")]
Place = Annotated[int, Field(ge=0, le=32767)]


class ContactOut(BaseModel):
    """Somebody outside of the escalation. position: the place in the list. digest: for who changes it."""

    contact: str
    name: str
    position: int
    email: str
    phone: str
    url: str
    how: str
    digest: str


class ContactIn(Body):
    """At least one of e-mail, telephone, address and how. contact: the short name, as in aws-support."""

    contact: Slug
    name: Name
    position: Place = 0
    email: Line = ""
    phone: Phone = ""
    url: Line = ""
    how: Line = ""
    reason: Reason


class ContactChangesIn(Body):
    """What becomes different; what is left out, or null, stays as it is. digest: of what was read."""

    reason: Reason
    digest: Digest
    name: Name | None = None
    position: Place | None = None
    email: Line | None = None
    phone: Phone | None = None
    url: Line | None = None
    how: Line | None = None


class ContactReasonIn(Body):
    reason: Reason


class WayOut(BaseModel):
    """One address. Telephone numbers are whole for operators and for whose they are, else in part."""

    channel: ChannelIs
    address: str


class ReachOut(BaseModel):
    """How one person is reached."""

    person: str
    name: str
    ways: list[WayOut]


class ReachIn(Body):
    """Addresses that become different: null or left out stays as it is, "" is taken away."""

    reason: Reason
    slack: Line | None = None
    email: Line | None = None
    phone: Line | None = None
    sms: Line | None = None
    webhook: Line | None = None


# --- contacts -----------------------------------------------------------------------------------------


def contact_out(contact: Contact) -> ContactOut:
    """A contact as programs see it."""
    values = {name: getattr(contact, name) for name in services.FIELDS}
    return ContactOut(contact=contact.slug, digest=services.digest_of(contact), **values)


@router.get("/contacts", response={200: list[ContactOut], **problems(403)}, summary="Whom one may call")
def contacts_outside(request: ApiRequest) -> list[ContactOut]:
    """At most 100, in the order of the page."""
    require_any_role(request.auth, "look at the contacts")
    return [contact_out(one) for one in Contact.objects.all()[:AT_MOST]]


@router.post("/contacts", response={201: ContactOut, **ACTING}, openapi_extra=DESCRIPTION, summary="Add a contact")
def add_contact(request: ApiRequest, body: ContactIn) -> HttpResponse:
    """By an administrator."""
    actor = request.auth
    require_any_role(actor, "add a contact")
    require(actor, Role.ADMIN, [], "add a contact")
    # Whether the short name is taken is asked once the key is known: the same request again is no conflict.
    form = _valid(ContactForm(body.model_dump(), instance=Contact(slug=body.contact)))
    return answer_once(
        request, lambda: contact_out(services.add_contact(actor, form.instance, body.reason)), status=201,
        action="contact.add", target=f"contact {body.contact}",
    )  # fmt: skip


CHANGED: dict[str, Any] = {"response": {200: ContactOut, **ACTING}, "openapi_extra": DESCRIPTION}


@router.post(f"{CONTACT}/changes", summary="Change a contact", **CHANGED)
def change_contact(request: ApiRequest, contact: Slug, body: ContactChangesIn) -> HttpResponse:
    """By an administrator; 409 when somebody changed it since it was read."""
    actor = request.auth
    found = load_contact(actor, contact)
    values = {name: getattr(found, name) for name in services.FIELDS}
    form = _valid(ContactForm({**values, **body.model_dump(exclude_none=True)}, instance=found))

    def effect() -> ContactOut:
        services.change_contact(actor, form.instance, body.reason, shown=body.digest)
        return contact_out(form.instance)

    return answer_once(request, effect, action="contact.change", target=f"contact {contact}")


@router.post(f"{CONTACT}/removal", summary="Remove a contact", **CHANGED)
def remove_contact(request: ApiRequest, contact: Slug, body: ContactReasonIn) -> HttpResponse:
    """By an administrator. The answer is the contact as it was."""
    actor = request.auth
    require(actor, Role.ADMIN, [], f"remove contact {contact}")

    def effect() -> ContactOut:
        found = load_contact(actor, contact)
        was = contact_out(found)
        services.remove_contact(actor, found, body.reason)
        return was

    return answer_once(request, effect, action="contact.remove", target=f"contact {contact}")


def _valid(form: ContactForm) -> ContactForm:
    """Raises ValidationError, naming fields."""
    if not form.is_valid():
        raise refused(form, "body", "body")
    return form


# --- how people are reached ---------------------------------------------------------------------------


def reach_out(reach: matrix_reach.ReachOf) -> ReachOut:
    """The ways of a person as programs see them."""
    return ReachOut(
        person=reach.person.username, name=reach.person.title_name,
        ways=[_way_out(way) for way in reach.ways if way.kind in matrix_reach.KINDS],
    )  # fmt: skip


def _way_out(way: matrix_reach.Way) -> WayOut:
    channel: Any = way.kind.value
    return WayOut(channel=channel, address=way.address)


@router.get("/contact-methods", response={200: list[ReachOut], **problems(404)}, summary="How people are reached")
def contact_methods(request: ApiRequest) -> list[ReachOut]:
    """All active people, by name."""
    look(request.auth, "read how people are reached")
    return [reach_out(one) for one in matrix_reach.everybody(request.auth)]


@router.get(REACH, response={200: ReachOut, **problems(404, 422)}, summary="How one person is reached")
def contact_methods_of(request: ApiRequest, username: Username) -> ReachOut:
    """By username."""
    return reach_out(matrix_reach.one_of(request.auth, _person(request.auth, username)))


@router.post(
    f"{REACH}/changes", response={200: ReachOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Change how somebody is reached",
)  # fmt: skip
def change_contact_methods(request: ApiRequest, username: Username, body: ReachIn) -> HttpResponse:
    """One's own, or anybody's by an administrator."""
    actor = request.auth
    person = _person(actor, username)
    if person != actor.person:
        require(actor, Role.ADMIN, [], f"change how {person.title_name} is reached")
    given = body.model_dump(exclude_none=True)
    form = ReachForm(given)
    if not form.is_valid():
        raise refused(form, "body", "body")
    wanted = {kind: address for kind, address in form.addresses().items() if kind in given}

    def effect() -> ReachOut:
        matrix_reach.change(actor, person, wanted, form.cleaned_data["reason"])
        return reach_out(matrix_reach.one_of(actor, person))

    return answer_once(request, effect, action="reach.change", target=f"contact methods of {person.title_name}")


def _person(actor: Actor, username: str) -> Person:
    look(actor, f"read how {username} is reached")
    return get_object_or_404(Person, username=username, is_active=True)
