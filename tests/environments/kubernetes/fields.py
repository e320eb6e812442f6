"""Server-side apply as the API server does it: who manages which field, and what goes with its manager.

An object is held as its leaves, by path. Lists whose elements have a key (containers, variables, ports) are merged by
it; other lists are leaves.
"""

import json
from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]
Leaves = dict[Path, Any]

# Replaced as a whole, by whoever changes anything in them.
WHOLE = ("selector",)
KEYS = {"containers": ("name",), "env": ("name",), "ports": ("containerPort", "port")}
# Whoever names these manages nothing by it.
IDENTITY = (("apiVersion",), ("kind",))
OF_THE_SERVER = ("name", "namespace", "uid", "resourceVersion", "generation", "managedFields", "creationTimestamp")


def leaves_of(value: Any, path: Path = ()) -> Leaves:
    """Every field by its path."""
    if isinstance(value, dict) and value and path[-1:] not in [(name,) for name in WHOLE]:
        found: Leaves = {}
        for key, below in value.items():
            found |= leaves_of(below, (*path, key))
        return found
    key = _key(path, value)
    if key:
        found = {}
        for element in value:
            found |= leaves_of(element, (*path, f"{key}={element[key]}"))
        return found
    return {path: value}


def _key(path: Path, value: Any) -> str:
    names = KEYS.get(path[-1], ()) if path and isinstance(value, list) and value else ()
    return next((name for name in names if all(name in one for one in value)), "")


def object_of(leaves: Leaves) -> Object:
    """The way back."""
    whole: Object = {}
    for path, value in leaves.items():
        below = whole
        for key in path[:-1]:
            below = below.setdefault(key, {})
        below[path[-1]] = value
    listed: Object = _listed(whole)
    return listed


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    found = {key: _listed(below) for key, below in value.items()}
    for key in KEYS.keys() & found.keys():
        if isinstance(found[key], dict) and all("=" in name for name in found[key]):
            found[key] = list(found[key].values())
    return found


def managed(document: Object) -> Leaves:
    """The fields that somebody manages who applies this."""
    return {
        path: value
        for path, value in leaves_of(document).items()
        if path not in IDENTITY and path[0] != "status" and not (path[0] == "metadata" and path[1] in OF_THE_SERVER)
    }


def above(paths: Iterable[Path]) -> set[Path]:
    """The paths, and those of what they are in."""
    return {path[:length] for path in paths for length in range(1, len(path) + 1)}


def laid_over(rest: Leaves, wanted: Leaves) -> Leaves:
    """wanted first, then what is left of the rest. An empty object is not one beside its own fields."""
    inner, below = above(wanted) - wanted.keys(), above(rest) - rest.keys()
    first = {path: value for path, value in wanted.items() if path not in below}
    return first | {path: value for path, value in rest.items() if path not in wanted and path not in inner}


class Managed:
    """One object with its managers: (name, operation) → paths."""

    def __init__(self, *, order_stays: bool = False) -> None:
        self.order_stays = order_stays  # as servers did it before 1.26: lists keep the order of what was there
        self.leaves: Leaves = {}
        self.managers: dict[tuple[str, str], set[Path]] = {}

    def conflicts(self, manager: str, document: Object) -> list[tuple[str, str]]:
        """(manager, field) of what others manage and have another value for."""
        wanted, found = managed(document), []
        for (other, operation), paths in self.managers.items():
            if (other, operation) == (manager, "Apply"):
                continue
            different = [path for path in sorted(paths & wanted.keys()) if self.leaves.get(path) != wanted[path]]
            found += [(other, _said(path)) for path in different]
        return found

    def apply(self, manager: str, document: Object) -> None:
        """Forced: what is in the way loses it. What the manager no longer names goes, unless others name it too.

        What it no longer names and nobody names anything in (a probe, a port) goes with all that was filled in there.
        """
        wanted = managed(document)
        for who, paths in self.managers.items():
            if who != (manager, "Apply"):
                paths -= {path for path in paths & wanted.keys() if self.leaves.get(path) != wanted[path]}
        before = self.managers.get((manager, "Apply"), set())
        self.managers[manager, "Apply"] = set(wanted)
        gone = above(before) - above(set().union(*self.managers.values()))
        rest = {path: value for path, value in self.leaves.items() if not above([path]) & gone}
        after = laid_over(rest, wanted)
        first = [path for path in self.leaves if path in after] if self.order_stays else []
        self.leaves = {path: after[path] for path in (*first, *(path for path in after if path not in first))}
        self.managers = {who: paths for who, paths in self.managers.items() if paths}

    def update(self, manager: str, document: Object) -> None:
        """Fields set by an update; they are managed by whoever set them."""
        wanted = managed(document)
        for who, paths in self.managers.items():
            if who != (manager, "Update"):
                paths -= {path for path in paths & wanted.keys() if self.leaves.get(path) != wanted[path]}
        self.leaves = laid_over(self.leaves, wanted)
        self.managers.setdefault((manager, "Update"), set()).update(wanted)

    def rewrite(self, entries: list[Object]) -> None:
        """Somebody wrote another `metadata.managedFields`: who is not in it manages nothing."""
        self.managers = {(one["manager"], one["operation"]): set(_paths(one["fieldsV1"])) for one in entries}

    def shown(self, version: str) -> list[Object]:
        """As `metadata.managedFields` names them, in a version of the API."""
        return [
            {
                "manager": name,
                "operation": operation,
                "apiVersion": version,
                "fieldsType": "FieldsV1",
                "fieldsV1": _fields_v1(paths),
            }
            for (name, operation), paths in self.managers.items()
        ]


def _said(path: Path) -> str:
    """`.spec.containers[name="web"].image`"""
    text = ""
    for position, key in enumerate(path):
        name, _, value = key.partition("=")
        element = position and name in KEYS.get(path[position - 1], ())
        text += f"[{name}={value if value.isdigit() else json.dumps(value)}]" if element else f".{key}"
    return text


def _paths(fields: Object, path: Path = ()) -> list[Path]:
    """The way back from `_fields_v1`."""
    below = {name: inner for name, inner in fields.items() if name != "."}
    if not below:
        return [path] if path else []
    found: list[Path] = []
    for name, inner in below.items():
        kind, _, key = name.partition(":")
        if kind == "k":
            ((key, value),) = json.loads(key).items()
            key = f"{key}={value}"
        found += _paths(inner, (*path, key))
    return found


def _fields_v1(paths: Iterable[Path]) -> Object:
    whole: Object = {}
    for path in sorted(paths):
        below = whole
        for position, key in enumerate(path):
            name, _, value = key.partition("=")
            element = position and name in KEYS.get(path[position - 1], ())
            said = {name: int(value) if value.isdigit() else value}
            below = below.setdefault(f"k:{json.dumps(said)}" if element else f"f:{key}", {})
            if element:
                below["."] = {}
    return whole
