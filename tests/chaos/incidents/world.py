"""What a chaos run of incidents is about: one source, one matrix with seconds for minutes, ways to the provider."""

from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.audit.record import SYSTEM
from environments.models import Environment
from incidents.intake.gate import digest_of
from incidents.models import (
    AlertSource,
    Channel,
    ContactMethod,
    EscalationLevel,
    EscalationPolicy,
    IncidentRule,
)

# Seconds after the opening, and the channels in their order.
LEVELS = ((0, ["webhook", "sms"]), (3, ["sms", "webhook"]), (6, ["pagerduty", "webhook"]))
SECRET = "a secret of the chaos run, made up"
SOURCE_TOKEN = "a token of the chaos run, made up"


@dataclass(frozen=True)
class World:
    """What clients need."""

    actor: Actor
    token: str  # an API token of an operator
    session: str  # and the key of a session


def build(provider: str, folder: Path) -> World:
    """Write it into an empty database. provider: the address of the recording one."""
    operator = Person.objects.create(username="chaos", first_name="Chaos")
    Grant.objects.create(person=operator, scope="*", role=Role.OPERATOR)
    Environment.objects.create(slug="chaos", name="Chaos", driver="local")
    _channels(provider, folder)
    for severity in ("P1", "P2"):
        _matrix(provider, severity)
    AlertSource.objects.create(slug="chaos", kind="plain", token_digest=digest_of(SOURCE_TOKEN))
    critical = [{"label": "severity", "op": "=", "value": "critical"}]
    rules = [("worst", critical, "P1"), ("rest", [], "P2")]
    for position, (slug, matchers, severity) in enumerate(rules):
        IncidentRule.objects.create(
            slug=slug, position=position, matchers=matchers, group_by=["case"], severity=severity, title="{case}"
        )
    token = create_token(operator, "chaos", Role.OPERATOR, 1, SYSTEM("chaos"))[1]
    return World(Actor(operator), token, _session(operator))


def _matrix(provider: str, severity: str) -> None:
    """One for each severity, with people of its own."""
    policy = EscalationPolicy.objects.create(slug=severity.lower(), name=severity, severities=[severity], repeats=0)
    for number, (seconds, channels) in enumerate(LEVELS, start=1):
        name = f"{severity} level {number}"
        person = Person.objects.create(username=name.replace(" ", "-").lower(), first_name=name)
        ContactMethod.objects.create(person=person, kind="webhook", address=f"{provider}/webhook")
        ContactMethod.objects.create(person=person, kind="sms", address=f"+155500{severity[1]}0{number:04}")
        EscalationLevel.objects.create(
            policy=policy, number=number, role=f"role {number}", after_seconds=seconds,
            targets=[{"person": person.username}], channels=channels,
        )  # fmt: skip


def _channels(provider: str, folder: Path) -> None:
    """The recording provider stands for each of them."""
    (folder / "secrets").mkdir(exist_ok=True)
    (folder / "secrets" / "provider").write_text(SECRET)
    secret = "file:provider"
    Channel.objects.create(kind="webhook", settings={"secret": secret, "url": f"{provider}/webhook"})
    Channel.objects.create(
        kind="sms", settings={"account": "AC1", "token": secret, "sender": "+15550000000", "url": provider}
    )
    values = {"routing_key": secret, "webhook_secret": secret, "url": f"{provider}/v2/enqueue"}
    Channel.objects.create(kind="pagerduty", settings=values)


def _session(person: Person) -> str:
    """The key of a session in which they are signed in."""
    session = SessionStore()
    session[SESSION_KEY], session[HASH_SESSION_KEY] = str(person.pk), person.get_session_auth_hash()
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session.save()
    return str(session.session_key)
