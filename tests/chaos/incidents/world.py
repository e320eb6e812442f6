"""What a chaos run of incidents is about: one source, one matrix with seconds for minutes, ways to the provider."""

from dataclasses import dataclass
from pathlib import Path

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
SOURCE_TOKEN = "a token of the chaos run, made up"


@dataclass(frozen=True)
class World:
    """What clients need."""

    actor: Actor
    token: str  # an API token of an operator


def build(provider: str, folder: Path) -> World:
    """Write it into an empty database. provider: the address of the recording one."""
    operator = Person.objects.create(username="chaos", first_name="Chaos")
    Grant.objects.create(person=operator, scope="*", role=Role.OPERATOR)
    Environment.objects.create(slug="chaos", name="Chaos", driver="local")
    _channels(provider, folder)
    policy = EscalationPolicy.objects.create(slug="chaos", name="Chaos", severities=["P1", "P2"], repeats=0)
    for number, (seconds, channels) in enumerate(LEVELS, start=1):
        person = Person.objects.create(username=f"level-{number}", first_name=f"Level {number}")
        ContactMethod.objects.create(person=person, kind="webhook", address=f"{provider}/webhook")
        ContactMethod.objects.create(person=person, kind="sms", address=f"+1555000{number:04}")
        EscalationLevel.objects.create(
            policy=policy, number=number, role=f"role {number}", after_seconds=seconds,
            targets=[{"person": person.username}], channels=channels,
        )  # fmt: skip
    AlertSource.objects.create(slug="chaos", kind="plain", token_digest=digest_of(SOURCE_TOKEN))
    critical = [{"label": "severity", "op": "=", "value": "critical"}]
    rules = [("worst", critical, "P1"), ("rest", [], "P2")]
    for position, (slug, matchers, severity) in enumerate(rules):
        IncidentRule.objects.create(
            slug=slug, position=position, matchers=matchers, group_by=["case"], severity=severity, title="{case}"
        )
    return World(Actor(operator), create_token(operator, "chaos", Role.OPERATOR, 1, SYSTEM("chaos"))[1])


def _channels(provider: str, folder: Path) -> None:
    """The recording provider stands for each of them."""
    (folder / "secrets").mkdir(exist_ok=True)
    (folder / "secrets" / "provider").write_text("a secret of the chaos run, made up")
    secret = "file:provider"
    Channel.objects.create(kind="webhook", settings={"secret": secret, "url": f"{provider}/webhook"})
    Channel.objects.create(
        kind="sms", settings={"account": "AC1", "token": secret, "sender": "+15550000000", "url": provider}
    )
    Channel.objects.create(kind="pagerduty", settings={"routing_key": secret, "url": f"{provider}/v2/enqueue"})
