"""The sections `storages` and `backups` of the configuration file: where backups go, and what is backed up when."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from backups.engines import ENGINES
from backups.models import Backup, Kind, Policy, PolicyClock, Storage
from backups.retention import LONGEST
from backups.schedules import problem_with_schedule, problem_with_zone
from backups.sealing import problem_with_recipient
from backups.storage import STORES
from environments.declarations.estate import known_environments
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from environments.models import Environment
from environments.secrets import problem_with as problem_with_secret

KEEP = {"days": 30, "last": 0, "daily": 0, "weekly": 0, "monthly": 0, "yearly": 0}


@dataclass(frozen=True)
class DeclaredPolicy:
    """fields: as the model has them, without environment, slug and storage."""

    environment: str
    slug: str
    storage: str
    fields: dict[str, Any]

    @property
    def path(self) -> str:
        """Its key in the file."""
        return f"backups.{self.environment}.{self.slug}"


# --- reading ------------------------------------------------------------------------------------------


def read_storages(file: Table) -> dict[str, dict[str, Any]]:
    """The storages by slug: their kind and settings."""
    found = {}
    for slug, table in file.tables("storages"):
        kind = table.choice("kind", STORES)
        settings = table.rest()
        if kind:
            for name, words in sorted(STORES[kind].check_settings(settings).items()):
                table.wrong(name, f"{words}.")
        if words := _moved(slug, kind, settings):
            table.wrong("kind", words)
        found[slug] = {"kind": kind, "settings": settings}
    return found


# Where a storage is; the others say how it is reached.
PLACE = ("path", "bucket", "prefix", "endpoint_url")


def _moved(slug: str, kind: str, settings: dict[str, Any]) -> str:
    """What is wrong with a storage that is declared somewhere else while backups are in it; "" for nothing."""
    there = Storage.objects.filter(slug=slug).first()
    if there is None or not Backup.objects.filter(storage=there).exclude(state=Backup.State.DELETED).exists():
        return ""
    had = (there.kind, *(there.settings.get(name, "") for name in PLACE))
    if had == (kind, *(settings.get(name, "") for name in PLACE)):
        return ""
    return "and its place cannot change while backups are in it; declare another storage, and point the policies there."


def read_policies(file: Table) -> list[DeclaredPolicy]:
    """All policies, in the order of the file."""
    found = []
    for environment, policies in file.tables("backups"):
        if environment not in known_environments(file):
            file.below("backups").wrong(environment, "names no environment; declare it in this file.")
        for slug, table in policies.each():
            found.append(_policy(environment, slug, table))
    return found


def _policy(environment: str, slug: str, table: Table) -> DeclaredPolicy:
    kind = table.choice("kind", Kind.values)
    storage = table.text("storage", limit=60)
    if storage and storage not in table.document.get("storages", {}) and not _storage_exists(storage):
        table.wrong("storage", f"there is no storage {storage}; add [storages.{storage}] to this file.")
    for name, words in _fixed(environment, slug, kind, storage).items():
        table.wrong(name, words)
    proof = table.choice("proof", Policy.Proof.values, "schedule")
    fields = {
        "kind": kind,
        "settings": _settings(table, kind),
        "schedule": table.checked("schedule", problem_with_schedule),
        "time_zone": table.checked("time_zone", problem_with_zone, "UTC"),
        "full_every": table.number("full_every", 7, most=1000) or 1,
        "rpo_seconds": 60 * table.number("rpo_minutes", 60, most=60 * 24 * 366),
        "rto_seconds": 60 * table.number("rto_minutes", 240, most=60 * 24 * 366),
        **_keep(table.below("keep")),
        "recipient": table.checked("encrypt_to", problem_with_recipient, ""),
        "identity": table.checked("identity", problem_with_secret, ""),
        "proof": proof,
        "proof_schedule": table.checked("proof_schedule", problem_with_schedule, "0 4 * * 0"),
        "checks": [_check(one) for one in table.list_of_tables("checks")],
    }
    if fields["recipient"] and not fields["identity"]:
        table.wrong("identity", "is missing: without the key nothing that is encrypted could be restored.")
    table.end()
    return DeclaredPolicy(environment, slug, storage, fields)


def _fixed(environment: str, slug: str, kind: str, storage: str) -> dict[str, str]:
    """What cannot be changed any more of a policy that has backups: what is there would not go with it."""
    rows = Policy.objects.filter(environment__slug=environment, slug=slug).select_related("storage")
    policy = rows.filter(backups__isnull=False).first()
    if policy is None:
        return {}
    wrong = {}
    if kind and kind != policy.kind:
        wrong["kind"] = f"there are backups of {policy.get_kind_display()} already; declare a policy of another name."
    if policy.kind == Kind.PITR and storage and storage != policy.storage.slug:
        wrong["storage"] = (
            f"its WAL is in {policy.storage.slug} and would not be found from {storage}; declare a policy of another "
            "name, and pause this one once that has its first backup."
        )
    return wrong


def _storage_exists(slug: str) -> bool:
    return Storage.objects.filter(slug=slug).exists()


def _settings(table: Table, kind: str) -> dict[str, Any]:
    given = table.raw("settings")
    if kind:
        below = table.below("settings")
        for name, words in sorted(ENGINES[kind].check_settings(given).items()):
            below.wrong(name, f"{words}.")
    return given


def _keep(table: Table) -> dict[str, int]:
    found = {f"keep_{name}": table.number(name, default, most=LONGEST) for name, default in KEEP.items()}
    table.end()
    return found


def _check(table: Table) -> dict[str, str]:
    found = {"name": table.text("name", limit=100), "sql": table.text("sql", limit=2000)}
    table.end()
    return found


# --- the difference -----------------------------------------------------------------------------------


def storage_changes(declared: dict[str, dict[str, Any]]) -> Iterator[Change]:
    """Storages that come or become different."""
    there = {one.slug: {"kind": one.kind, "settings": one.settings} for one in Storage.objects.all()}
    for slug, wanted in declared.items():
        changes = difference(there.get(slug, {}), wanted)
        if changes:
            yield Change(
                "~" if slug in there else "+", f"storages.{slug}", lines_of(changes),
                partial(Storage.objects.update_or_create, slug=slug, defaults=wanted),
                Trace("storage.declared", f"storage {slug}", data={"changes": changes}),
            )  # fmt: skip


def policy_changes(declared: list[DeclaredPolicy]) -> Iterator[Change]:
    """Policies that come or become different."""
    rows = Policy.objects.select_related("environment", "storage")
    there = {(one.environment.slug, one.slug): one for one in rows}
    for one in declared:
        policy = there.get((one.environment, one.slug))
        wanted = {"storage": one.storage, **one.fields}
        had: dict[str, Any] = {}
        if policy is not None:
            had = {"storage": policy.storage.slug, **{name: getattr(policy, name) for name in one.fields}}
        changes = difference(had, wanted if policy else {key: value for key, value in wanted.items() if value})
        if changes:
            yield Change(
                "~" if policy else "+", one.path, lines_of(changes), partial(_declare, one),
                Trace("backup.policy_declared", f"policy {one.environment}/{one.slug}", (one.environment,),
                      {"changes": changes}),
            )  # fmt: skip


def _declare(one: DeclaredPolicy) -> None:
    policy, _ = Policy.objects.update_or_create(
        environment=Environment.objects.get(slug=one.environment),
        slug=one.slug,
        defaults={**one.fields, "storage": Storage.objects.get(slug=one.storage)},
    )
    # Due times of the old schedule are forgotten; the clock works out the new ones.
    PolicyClock.objects.update_or_create(policy=policy, defaults={"due_at": None, "proof_due_at": None})


def storages_left_alone(declared: dict[str, dict[str, Any]]) -> list[str]:
    """Storages that exist and are not in the file."""
    return [f"storage {slug}" for slug in Storage.objects.exclude(slug__in=declared).values_list("slug", flat=True)]


def policies_left_alone(declared: list[DeclaredPolicy]) -> list[str]:
    """Policies that exist and are not in the file."""
    known = {(one.environment, one.slug) for one in declared}
    there = Policy.objects.values_list("environment__slug", "slug")
    return [f"backup policy {environment}/{slug}" for environment, slug in there if (environment, slug) not in known]


STORAGES = Section("storages", read_storages, storage_changes, storages_left_alone)
POLICIES = Section("backups", read_policies, policy_changes, policies_left_alone)
