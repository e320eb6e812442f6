"""People, what they may do where, and the tokens of their programs."""

from collections.abc import Iterable, Mapping

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower, Now

from controlplane.accounts.scopes import known_scopes

EVERYWHERE = "*"
# How the usernames of pipelines' own people begin: they have roles and no password, and no file declares them.
PIPELINES = "pipeline-"


class Role(models.TextChoices):
    """What one may do, weakest first; each includes the ones before it."""

    VIEWER = "viewer", "viewer"
    OPERATOR = "operator", "operator"
    APPROVER = "approver", "approver"
    ADMIN = "admin", "admin"

    @property
    def rank(self) -> int:
        """Its place among the roles, from 0."""
        return list(Role).index(self)

    def includes(self, other: "Role") -> bool:
        """May everything that the other may."""
        return self.rank >= other.rank


class Person(AbstractUser):
    """Somebody who signs in, or who has only tokens. The whole name is kept in `first_name`: names have no parts."""

    class Meta:
        verbose_name_plural = "people"
        constraints = [
            # Alice and alice are the same person to everybody who reads a history.
            models.UniqueConstraint(
                Lower("username"),
                name="person_username_once",
                violation_error_message="There is a person of this name already.",
            ),
        ]

    def __str__(self) -> str:
        return self.title_name

    @property
    def title_name(self) -> str:
        """The name that pages and the audit trail show."""
        return self.get_full_name() or self.username

    # What the audit trail, which knows no roles, asks of its reader.

    @property
    def audit_scopes(self) -> list[str] | None:
        """The environments whose entries this person may read; None for all."""
        return scopes_with(Role.VIEWER, roles_of(self))

    @property
    def audit_whole(self) -> bool:
        """Whether this person may read the entries about the installation itself."""
        return roles_of(self).get(EVERYWHERE) == Role.ADMIN

    @property
    def audit_choices(self) -> list[str]:
        """The environments to choose from when filtering."""
        scopes = self.audit_scopes
        return known_scopes() if scopes is None else scopes


class Grant(models.Model):
    """A person's role in one environment, or everywhere."""

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="grants")
    scope = models.CharField(max_length=60)
    role = models.CharField(max_length=20, choices=Role.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["person", "scope"], name="grant_once"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="grant_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.person}: {self.role} in {self.scope}"


class ApiToken(models.Model):
    """Lets a program act as a person, until it expires, with at most the role that it was given."""

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    # The beginning of the token, by which people tell theirs apart; the rest is stored nowhere.
    prefix = models.CharField(max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    role = models.CharField(max_length=20, choices=Role.choices)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(role__in=Role.values), name="token_role_known")]

    def __str__(self) -> str:
        return f"token {self.prefix}… “{self.name}” of {self.person}"


def roles_of(person: Person) -> dict[str, Role]:
    """By scope; somebody who was deactivated has none."""
    if not person.is_active:
        return {}
    return {scope: Role(role) for scope, role in person.grants.values_list("scope", "role")}


def scopes_with(role: Role, roles: Mapping[str, Role]) -> list[str] | None:
    """The scopes in which these roles include the given one; None for everywhere."""
    if EVERYWHERE in roles and roles[EVERYWHERE].includes(role):
        return None
    return sorted(scope for scope, held in roles.items() if scope != EVERYWHERE and held.includes(role))


def strongest(roles: Iterable[Role]) -> Role:
    """The one that includes all the others; viewer, the least one can be, when there are none."""
    return max(roles, key=lambda role: role.rank, default=Role.VIEWER)
