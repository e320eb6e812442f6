"""One schema, or one table, out of a dump: which entries of its table of contents that takes."""

from backups.engines.archive import Archive, Item
from controlplane.operations.errors import StepError

# What a thing may need that is not itself part of the piece: it comes along.
ALONG = frozenset({
    "SCHEMA", "EXTENSION", "TYPE", "SHELL TYPE", "DOMAIN", "COLLATION", "FUNCTION", "PROCEDURE", "AGGREGATE", "CAST",
    "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "SEQUENCE", "ACCESS METHOD", "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE",
})  # fmt: skip
# What belongs to a table. A foreign key does not: what it refers to may not be there.
PARTS = frozenset({
    "TABLE DATA", "DEFAULT", "SEQUENCE", "SEQUENCE SET", "SEQUENCE OWNED BY", "INDEX", "INDEX ATTACH", "CONSTRAINT",
    "CHECK CONSTRAINT", "TRIGGER", "RULE", "POLICY", "ROW SECURITY", "STATISTICS", "STATISTICS DATA", "COMMENT",
    "ACL", "SECURITY LABEL", "TABLE",
})  # fmt: skip
# Settings of the session that reads the dump.
ALWAYS = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH"})


def piece(archive: Archive, *, schema: str = "", table: str = "") -> list[int]:
    """The numbers of the entries, in the order of the dump. table: in `schema`, "public" where none is given.

    Raises StepError when the dump has no such thing.
    """
    items = archive.items
    if table:
        schema = schema or "public"
        name = table.removeprefix(f"{schema}.")
        chosen = _of_table(items, schema, name)
        what = f"table {schema}.{name}"
    else:
        chosen = {number for number, one in items.items() if schema in (one.schema, _named(one, "SCHEMA"))}
        chosen -= {number for number in chosen if not _stands(items[number], chosen, items)}
        what = f"schema {schema}"
    if not chosen:
        raise StepError(f"The backup of {archive.database} has no {what}.", permanent=True)
    chosen |= {number for number, one in items.items() if one.kind in ALWAYS or _named(one, "SCHEMA") == schema}
    chosen = _with_needs(chosen, items)
    return [number for number in items if number in chosen]


def _named(item: Item, kind: str) -> str | None:
    return item.name if item.kind == kind else None


def _of_table(items: dict[int, Item], schema: str, name: str) -> set[int]:
    """The table, its partitions, and what belongs to them."""
    tables = {(one.schema, one.name): number for number, one in items.items() if one.kind == "TABLE"}
    chosen = {tables[schema, name]} if (schema, name) in tables else set()
    count = 0
    while count < len(chosen):
        count = len(chosen)
        for number, one in items.items():
            if one.kind == "TABLE ATTACH":
                # It has the name of the partition, and needs both.
                partition = tables[one.schema, one.name]
                if chosen.intersection(set(one.needs) - {partition}):
                    chosen |= {number, partition}
            elif one.kind in PARTS and chosen.intersection(one.needs) and _stands(one, chosen, items):
                chosen.add(number)
    return chosen


def _stands(item: Item, chosen: set[int], items: dict[int, Item]) -> bool:
    """All that it needs is chosen too, or comes along."""
    return all(need in chosen or items[need].kind in ALONG for need in item.needs if need in items)


def _with_needs(chosen: set[int], items: dict[int, Item]) -> set[int]:
    waiting = list(chosen)
    while waiting:
        for need in items[waiting.pop()].needs:
            if need in items and need not in chosen and items[need].kind in ALONG:
                chosen.add(need)
                waiting.append(need)
    return chosen
