"""recover.py as it goes into a kit: the pieces of `script/` in one file, with the key that checks the kit.

The pieces are ordinary modules, typed and tested as all others. Here their imports are brought to the top, those of
each other are dropped, and `rds.look` of a piece becomes what it is in one file: `look`.
"""

import ast
from pathlib import Path

PIECES = (
    "errors", "ed25519", "manifest", "journal", "talking", "cloud", "running", "health", "applications",
    "route53", "rds", "flag", "deciding", "main",
)  # fmt: skip
FOLDER = Path(__file__).parent / "script"
OWN = "backups.disaster.kit.script"
HEAD = "#!/usr/bin/env python3\n"
KEY_LINE = 'PUBLIC_KEY = ""  # the kit\'s own copy of this file has it\n'


def script_text(public_key: str) -> str:
    """The source of recover.py for kits that are signed with this key (hex)."""
    pieces = {name: (FOLDER / f"{name}.py").read_text() for name in PIECES}
    imports: set[str] = set()
    parts, names = [], set[str]()
    for name, source in pieces.items():
        tree = ast.parse(source)
        if twice := names & (defined := _defined(tree)):
            raise ValueError(f"{name} defines {', '.join(sorted(twice))} a second time")
        names |= defined
        imports |= _foreign_imports(tree)
        parts.append(_without_head(name, source, tree))
    last = pieces[PIECES[-1]]
    docstring = ast.get_source_segment(last, ast.parse(last).body[0])
    text = "\n".join([HEAD + str(docstring), "", *sorted(imports, key=_plain_first), "", *parts])
    if text.count(KEY_LINE) != 1:
        raise ValueError("there is no place for the key")
    return text.replace(KEY_LINE, f'PUBLIC_KEY = "{public_key}"\n')


def _plain_first(line: str) -> tuple[bool, str]:
    return line.startswith("from "), line


def _defined(tree: ast.Module) -> set[str]:
    """The names that a piece adds to the file."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def _is_own(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and str(node.module).startswith(OWN)


def _foreign_imports(tree: ast.Module) -> set[str]:
    """One line a name, so that the same name from several pieces is there once."""
    found = set()
    for node in tree.body:
        for one in node.names if isinstance(node, ast.Import | ast.ImportFrom) and not _is_own(node) else ():
            known = f" as {one.asname}" if one.asname else ""
            source = f"from {node.module} import" if isinstance(node, ast.ImportFrom) else "import"
            found.add(f"{source} {one.name}{known}")
    return found


def _without_head(name: str, source: str, tree: ast.Module) -> str:
    """A piece without docstring and imports, under a heading of its own."""
    words = ast.get_docstring(tree) or ""
    body = [node for node in tree.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    lines = source.splitlines()
    first = body[0].lineno - 1
    while lines[first - 1].startswith(("#", "@")):
        first -= 1
    about = "" if name == PIECES[-1] else "".join(f"\n# {line}".rstrip() for line in words.splitlines())
    return f"\n# {f' {name} '.center(96, '-')}{about}\n\n" + "\n".join(lines[first:]) + "\n"
