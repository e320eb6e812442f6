"""Whether what an API server shows is what was written, however the server writes it.

It fills in what was left out, drops what is empty, writes amounts in their shortest form ("1000m" as "1"), and may keep
the elements of a list in another order. So what was written is looked for in what is shown, and what our manager holds
beyond it; all the rest is the server's, or somebody else's. Pure.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

# By the name of a list whose order says nothing: what tells its elements apart.
KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port", "protocol"),
}
AMOUNTS = ("requests", "limits")
AMOUNT = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)")
UNITS = {
    name: Fraction(1000) ** power for power, name in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
}
UNITS |= {f"{name}i": Fraction(1024) ** power for power, name in enumerate("KMGTPE", 1)}


def amount(text: str) -> Fraction | None:
    """What an amount of a resource comes to; None for what is none."""
    parts = AMOUNT.fullmatch(text.strip())
    if parts is None:
        return None
    digits, exponent, unit = parts.groups()
    try:
        return Fraction(f"{digits}{exponent or ''}") * UNITS[unit or ""]
    except ValueError:
        return None


def unlike(wanted: Any, found: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Where `found` says otherwise than `wanted`, by path and never by value. What `wanted` leaves out may be anything.

    An empty object or list leaves all of it out; an empty text, 0 and false are what a server does not send back.
    """
    says_nothing = wanted is None or (isinstance(wanted, dict | list) and not wanted)
    if says_nothing or (not wanted and not found):
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [one for key, below in wanted.items() for one in unlike(below, found.get(key), (*path, key))]
    if isinstance(wanted, list) and isinstance(found, list):
        return list(_unlike_elements(wanted, found, path))
    same = wanted == found or (len(path) > 1 and path[-2] in AMOUNTS and _come_to_the_same(wanted, found))
    return [] if same else [".".join(path)]


def _come_to_the_same(wanted: Any, found: Any) -> bool:
    sizes = [amount(str(one)) for one in (wanted, found)]
    return sizes[0] is not None and sizes[0] == sizes[1]


def _unlike_elements(wanted: Sequence[Any], found: Sequence[Any], path: tuple[str, ...]) -> Iterator[str]:
    keys = KEYS.get(path[-1], ()) if path else ()
    if not keys:
        if len(wanted) != len(found):
            yield ".".join(path)
            return
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from unlike(one, other, (*path, str(number)))
        return
    for one in wanted:
        named = {key: one[key] for key in keys if key in one}
        yield from unlike(one, element(found, named), (*path, str(next(iter(named.values()), ""))))


def element(among: Any, named: Mapping[str, Any]) -> Any:
    """The element of a list that has these keys; one that leaves a key out has it as the server would fill it in."""
    alike = [one for one in among or [] if all(one.get(key, value) == value for key, value in named.items())]
    return alike[0] if alike else None


def held_by(found: Mapping[str, Any], manager: str) -> Mapping[str, Any]:
    """The fields that a manager holds by having applied them, as `managedFields` writes them (FieldsV1)."""
    entries = (found.get("metadata") or {}).get("managedFields") or []
    chosen = [one for one in entries if one.get("manager") == manager and one.get("operation") == "Apply"]
    return chosen[0].get("fieldsV1") or {} if chosen else {}


def beyond(held: Mapping[str, Any], found: Any, wanted: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Where `found` has something that is held and that `wanted` does not have, by path."""
    more = []
    for name, below in held.items():
        kind, _, key = name.partition(":")
        if kind == "f":
            there, meant = ((one or {}).get(key) for one in (found, wanted))
        elif kind == "k":
            named = json.loads(key)
            there, meant = (element(one, named) for one in (found, wanted))
            key = str(next(iter(named.values())))
        else:
            continue
        if there and meant is None:
            more.append(".".join((*path, key)))
        elif there and below:
            more += beyond(below, there, meant, (*path, key))
    return more
