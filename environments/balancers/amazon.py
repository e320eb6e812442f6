"""What both kinds of AWS's load balancers have in common: whom to ask as whom, and how settings are checked."""

from collections.abc import Callable, Mapping
from typing import Any

from controlplane.operations.errors import StepError
from environments.addresses import problem_with as problem_with_url
from environments.aws import Account
from environments.balancers.base import Member
from environments.secrets import problem_with as problem_with_secret

Check = Callable[[Any], str]
ACCOUNT = ("region", "endpoint_url", "access_key", "secret_key", "answer_seconds")


def problems(given: Mapping[str, Any], own: Mapping[str, Check], required: tuple[str, ...]) -> dict[str, str]:
    """What is wrong with the settings, in words, by key. own: those of the kind, with the check of each."""
    known = {**dict.fromkeys(ACCOUNT, text), **_CHECKED, **own}
    wrong = {
        key: f"is no setting of it; there are {', '.join(sorted(known))}"
        for key in given.keys() - known.keys() - {"kind"}
    }
    wrong |= {key: "is missing" for key in ("region", *required) if not given.get(key)}
    wrong |= {key: words for key in known if given.get(key) and (words := known[key](given[key]))}
    if bool(given.get("access_key")) != bool(given.get("secret_key")):
        wrong["access_key"] = "and secret_key belong together: give both or neither"
    return wrong


def text(value: Any) -> str:
    """What is wrong with what should be text, in words; "" for nothing."""
    return "" if isinstance(value, str) else "has to be text"


def names(value: Any) -> str:
    """The same for a list of names."""
    good = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
    return "" if good else 'has to be a list of names, as in ["production-3"]'


def table(value: Any) -> str:
    """The same for a table from names to identities."""
    good = isinstance(value, Mapping) and all(isinstance(one, str) and one for one in value.values())
    return "" if good else 'has to be a table, as in { production-1 = "i-0abc" }'


def _secret(value: Any) -> str:
    return text(value) or problem_with_secret(value) or ""


def _seconds(value: Any) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 600
    return "" if good else "has to be a number of seconds above 0, and 600 at most"


_CHECKED: Mapping[str, Check] = {
    "endpoint_url": lambda value: text(value) or problem_with_url(value) or "",
    "access_key": _secret,
    "secret_key": _secret,
    "answer_seconds": _seconds,
}


def account_of(settings: Mapping[str, Any]) -> Account:
    """Whom to ask, and as whom."""
    return Account.of(settings)


def identity_of(settings: Mapping[str, Any], key: str, member: Member) -> str:
    """How AWS calls the member, as the table of this key says. Raises StepError when it says nothing."""
    found = settings.get(key, {}).get(member.name)
    if not found:
        words = f"The settings of the load balancer do not say which instance {member.name} is. Add it to {key}."
        raise StepError(words, permanent=True)
    return str(found)
