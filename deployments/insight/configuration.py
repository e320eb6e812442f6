"""Which variables differ between two environments. Of a secret nobody learns more than whether it is the same."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.crypto import salted_hmac

from controlplane.operations.errors import StepError
from environments.models import ConfigEntry, Environment
from environments.secrets import resolve

SALT = "deployments.insight.configuration"
# What is at hand without asking another machine: a page does not wait for AWS.
AT_HAND = ("env:", "file:")


@dataclass(frozen=True)
class Side:
    """A variable in one environment. there: False where it has none of that name. secret: words are a fingerprint."""

    there: bool
    words: str = ""
    secret: bool = False


@dataclass(frozen=True)
class Difference:
    """A variable that is not the same in both."""

    key: str
    before: Side
    after: Side


def differences(before: Environment, after: Environment) -> list[Difference]:
    """By name: variables that only one of them has, or whose values differ. One query."""
    rows = ConfigEntry.objects.filter(environment__in=[before, after]).order_by("key")
    left, right = _by_key(rows, before), _by_key(rows, after)
    found = []
    for key in sorted(left.keys() | right.keys()):
        one, other = _side(left.get(key)), _side(right.get(key))
        if one != other:
            found.append(Difference(key, one, other))
    return found


def _by_key(rows: Iterable[ConfigEntry], environment: Environment) -> dict[str, ConfigEntry]:
    return {row.key: row for row in rows if row.environment_id == environment.pk}


def _side(entry: ConfigEntry | None) -> Side:
    if entry is None:
        return Side(there=False)
    if not entry.secret:
        return Side(there=True, words=entry.value)
    return Side(there=True, words=fingerprint(entry.secret), secret=True)


def fingerprint(reference: str) -> str:
    """Of the value, keyed, so that nobody can try out values; of the reference where the value is not at hand."""
    if not reference.startswith(AT_HAND):
        return f"reference {_keyed(reference)}"
    try:
        return f"value {_keyed(resolve(reference))}"
    except StepError:
        return f"cannot be read, reference {_keyed(reference)}"


def _keyed(text: str) -> str:
    return salted_hmac(SALT, text, algorithm="sha256").hexdigest()[:12]
