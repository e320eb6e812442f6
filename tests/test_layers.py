"""What imports what: arrows point down only, no cycle, no import of our own packages hidden in a function.

docs/architecture.md draws the same picture.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNEL = ("web", "audit", "clock", "live", "accounts", "operations", "embedded")
APPS = ("environments", "deployments", "backups", "incidents")

# package → the packages of ours that it may import
MAY_IMPORT: dict[str, set[str]] = {
    "controlplane.web": set(),
    "controlplane.audit": {"controlplane.web"},
    "controlplane.clock": set(),
    "controlplane.live": set(),
    "controlplane.embedded": set(),
    "controlplane.accounts": {"controlplane.audit", "controlplane.web"},
    "controlplane.operations": {f"controlplane.{name}" for name in ("web", "audit", "clock", "live", "accounts")},
}
_kernel = {f"controlplane.{name}" for name in KERNEL} - {"controlplane.embedded"}
MAY_IMPORT["environments"] = _kernel
MAY_IMPORT["deployments"] = _kernel | {"environments"}
# The demo's staging runs on a Podman of its own, where there is one.
MAY_IMPORT["deployments"] |= {"controlplane.embedded"}
# Restore tests need a PostgreSQL to throw away: the one that bin/run starts is made for just that.
MAY_IMPORT["backups"] = _kernel | {"environments", "controlplane.embedded"}
MAY_IMPORT["incidents"] = _kernel | {"environments", "deployments", "backups"}


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("controlplane", *APPS):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def package_of(module: str) -> str:
    """The room a module stands in; "" for the composition root (settings, urls, asgi, api …)."""
    parts = module.split(".")
    if parts[0] != "controlplane":
        return parts[0]
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1] in KERNEL else ""


def imports_of(module: str, path: Path) -> Iterator[tuple[str, bool]]:
    """Modules of ours that it imports, and whether the import is hidden in a function."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    base = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = node.module or ""
            if node.level:
                above = base.split(".")[: len(base.split(".")) - node.level + 1]
                stem = ".".join([*above, *([node.module] if node.module else [])])
            # `from package import module` names a module; `from module import name` does not.
            names = [f"{stem}.{alias.name}" if f"{stem}.{alias.name}" in MODULES else stem for alias in node.names]
        for name in names:
            if name.split(".")[0] in ("controlplane", *APPS):
                yield name, id(node) in hidden


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_point_down(module: str) -> None:
    here = package_of(module)
    for name, _ in imports_of(module, MODULES[module]):
        there = package_of(name)
        if not here or there == here:
            continue
        assert there in MAY_IMPORT[here], f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_is_hidden_in_a_function(module: str) -> None:
    if module.endswith(".apps"):
        return  # AppConfig.ready() registers, and models exist only from then on
    assert not [name for name, hidden in imports_of(module, MODULES[module]) if hidden]


def test_there_is_no_cycle() -> None:
    arrows = {
        module: {name for name, hidden in imports_of(module, path) if not hidden and name in MODULES}
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join([*way[way.index(module) :], module])
        if module not in done:
            for following in arrows[module] - {module}:
                visit(following, (*way, module))
            done.add(module)

    for module in arrows:
        visit(module, ())
