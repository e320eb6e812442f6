"""Is the database of RDS that was brought up good: what RDS says of it, and what its own data answer."""

from typing import Any

import psycopg

from backups.disaster.databases.rds_steps import at
from backups.disaster.patience import say_once
from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import StepContext, StepFunction
from environments.secrets import resolve

CONNECT_SECONDS = 10
STATEMENT_MS = 60_000


def _verify(
    context: StepContext, *, place: Arguments, instance: str, groups: list[str], checks: list[dict[str, str]],
    login: Arguments,
) -> None:  # fmt: skip
    """login: {"database", "user", "password" (a secret's reference), "address"}; without a password nobody logs in."""
    rds = at(context, place)
    found = rds.instance(instance)
    if found is None or found.status != "available":
        raise StepError(f"{rds.words(instance)} is {found.status if found else 'gone'}")
    if found.source:
        raise StepError(f"{rds.words(instance)} is still a replica of {found.source}", permanent=True)
    if not found.lies_behind(groups):
        raise StepError(f"{rds.words(instance)} is in {', '.join(found.groups)}, not in {', '.join(groups)}")
    context.log(f"{rds.words(instance)} is available, in {', '.join(groups)}, at {found.endpoint}")
    if not login["password"]:
        if checks:
            say_once(context, "no login is given (user, password), so its data were not asked")
        return
    for name, good in _answers(context, login, found.endpoint, checks).items():
        if not good:
            raise StepError(f"The check “{name}” of {instance} does not hold.", permanent=True)
        context.log(f"check “{name}” holds")


def _answers(context: StepContext, login: Arguments, endpoint: str, checks: list[dict[str, str]]) -> dict[str, bool]:
    """Each check's name, and whether its SQL answers true. Raises StepError."""
    password = resolve(login["password"])
    context.mask(password)
    host, _, port = (login["address"] or endpoint).partition(":")
    found: dict[str, Any] = {}
    try:
        with psycopg.connect(
            host=host, port=port or "5432", dbname=login["database"], user=login["user"], password=password,
            connect_timeout=CONNECT_SECONDS,
            options=f"-c statement_timeout={STATEMENT_MS} -c default_transaction_read_only=on",
        ) as connection:  # fmt: skip
            for check in checks:
                row = connection.execute(check["sql"].encode()).fetchone()
                found[check["name"]] = bool(row and row[0] is True)
    except psycopg.OperationalError as error:
        raise StepError(f"{host} does not let us in: {str(error).strip()}") from error
    except psycopg.Error as error:
        raise StepError(f"A check cannot be asked: {str(error).strip()}", permanent=True) from error
    return found


STEPS = {"rds.verify": StepFunction(act=_verify)}
