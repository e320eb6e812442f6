"""Fields that we write and that others manage by now, and how they are handed back. Pure.

An API server notes in `managedFields` who manages which field, and refuses an apply that would change one of somebody
else's. A deployment that answers a known difference names those it takes back, and from whom. They are handed over in
that note, one by one, and nothing is forced: whatever else is in the way still refuses.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from environments.drivers.kubernetes.api import COUNTING, MANAGER, OURS, Claim, Object
from environments.drivers.kubernetes.fields import element, held_by
from environments.drivers.kubernetes.manifests import MARK

REPLICAS = "spec.replicas"
# Compared as a whole, by a mark: what others put into it is a difference.
VARIABLES = "f:env"
# Of a Service's ports every one counts: with another beside ours, which has no name, the Service is refused.
PORTS = ("f:spec", "f:ports")
Node = tuple[str, ...]


def claims_on(found: Mapping[str, Any], wanted: Object) -> list[Claim]:
    """What others manage of what we write, where it is not as `wanted` has it."""
    claims = []
    for entry in _entries(found):
        if entry["manager"] not in OURS and _is_readable(entry, found):
            nodes = _claimed(entry.get("fieldsV1") or {}, _held_by_us(found), found, wanted, ())
            claims += [Claim(_said(node), entry["manager"]) for node in nodes]
    return list(dict.fromkeys(claims))


def is_of_image(claim: Claim) -> bool:
    """It is the image, or one of the marks that say which it is."""
    return claim.field.endswith(".image") or f".annotations.{MARK}" in claim.field


def handed_over(found: Object, claims: Iterable[Claim]) -> tuple[list[Object], list[Claim]]:
    """`managedFields` with these as ours, and which of them others manage indeed. None of them: as they are."""
    wanted, done = set(claims), []
    entries = deepcopy(_entries(found))
    for entry in [one for one in entries if one["manager"] not in OURS and _is_readable(one, found)]:
        held = entry.get("fieldsV1") or {}
        for node in [one for one in _nodes(held) if Claim(_said(one), entry["manager"]) in wanted]:
            claim = Claim(_said(node), entry["manager"])
            part = _cut(held, node)
            if part is not None:
                _paste(_ours(entries, found, COUNTING if claim.field == REPLICAS else MANAGER), node, part)
                done.append(claim)
    return [one for one in entries if one.get("fieldsV1")], list(dict.fromkeys(done))


def _entries(found: Mapping[str, Any]) -> list[Object]:
    return list((found.get("metadata") or {}).get("managedFields") or [])


def _is_readable(entry: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Paths of another version of the API may mean something else: those stay in the way."""
    return entry.get("apiVersion") == found.get("apiVersion")


def _held_by_us(found: Mapping[str, Any]) -> Object:
    whole: Object = {}
    for manager in OURS:
        _merge(whole, held_by(found, manager))
    return whole


def _merge(whole: Object, part: Mapping[str, Any]) -> None:
    for name, below in part.items():
        _merge(whole.setdefault(name, {}), below)


def _claimed(held: Mapping[str, Any], ours: Mapping[str, Any], found: Any, wanted: Any, path: Node) -> Iterator[Node]:
    for name, below in held.items():
        kind, _, key = name.partition(":")
        if kind not in ("f", "k"):
            continue
        there, meant = (_part(one, kind, key) for one in (found, wanted))
        mine, node = ours.get(name), (*path, name)
        if name == VARIABLES:
            yield from _not_ours(below, mine or {}, node)
        elif key.startswith(MARK) or (path == PORTS and meant is None):
            yield node
        elif meant is None:
            # Marks are only made when something is applied.
            if name == "f:annotations":
                yield from _claimed(below, mine or {}, there, {}, node)
        elif below:
            yield from _claimed(below, mine or {}, there, meant, node)
        elif meant != there:
            # As the server compares: an amount that is written otherwise is in the way as well.
            yield node


def _not_ours(held: Mapping[str, Any], ours: Mapping[str, Any], path: Node) -> Iterator[Node]:
    """What is held and not ours, named by the topmost."""
    for name, below in held.items():
        if name != "." and name not in ours:
            yield (*path, name)
        elif name != ".":
            yield from _not_ours(below, ours[name], (*path, name))


def _part(whole: Any, kind: str, key: str) -> Any:
    if kind == "k":
        return element(whole, json.loads(key)) if isinstance(whole, list) else None
    return whole.get(key) if isinstance(whole, Mapping) else None


def _said(node: Node) -> str:
    """As an API server writes it where it refuses: `spec.containers[name="web"].image`."""
    text = ""
    for name in node:
        kind, _, key = name.partition(":")
        if kind == "k":
            named = json.loads(key)
            text += "[" + ",".join(f"{one}={json.dumps(named[one])}" for one in sorted(named)) + "]"
        else:
            text += f".{key}"
    return text.lstrip(".")


# --- handing over -------------------------------------------------------------------------------------


def _nodes(held: Mapping[str, Any], path: Node = ()) -> list[Node]:
    """Every field with all that is in it, the outer ones first."""
    found = []
    for name, below in held.items():
        if name != ".":
            found += [(*path, name), *_nodes(below, (*path, name))]
    return found


def _cut(held: Object, node: Node) -> Object | None:
    """Take a part out, with what is left empty by that; None where an outer one was taken already."""
    first, *rest = node
    if first not in held:
        return None
    if not rest:
        part: Object = held.pop(first)
        return part
    part_below = _cut(held[first], tuple(rest))
    if part_below is not None and not held[first]:
        del held[first]
    return part_below


def _paste(held: Object, node: Node, part: Object) -> None:
    for name in node:
        held = held.setdefault(name, {})
    _merge(held, part)


def _ours(entries: list[Object], found: Object, manager: str) -> Object:
    """What that manager of ours holds by applying, to be added to."""
    for entry in entries:
        if (entry.get("manager"), entry.get("operation")) == (manager, "Apply"):
            held: Object = entry.setdefault("fieldsV1", {})
            return held
    added: Object = {}
    entry = {"manager": manager, "operation": "Apply", "apiVersion": found["apiVersion"], "fieldsType": "FieldsV1",
             "fieldsV1": added}  # fmt: skip
    entries.append(entry)
    return added
