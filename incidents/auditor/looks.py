"""One look: every invariant on its own, whatever becomes of the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import Connection

from incidents.auditor.chain import Chains
from incidents.auditor.invariants import INVARIANTS, Invariant

logger = logging.getLogger("auditor")

# Of one invariant; beyond that, one alarm stands for all the rest.
AT_MOST = 20
ENOUGH: LiteralString = " LIMIT 21"
CHAIN = "timeline-chain"
UNCHECKED = "unchecked"


@dataclass
class Findings:
    """found: words by key. unsure: beginnings of keys of which nobody knows whether they still hold."""

    found: dict[str, str] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)

    def add(self, name: str, rows: Sequence[tuple[str, str]]) -> None:
        """What broke an invariant."""
        self.found |= {f"{name}:{which}": words for which, words in rows[:AT_MOST]}
        if len(rows) > AT_MOST:
            self.found[f"{name}:more"] = f"{rows[0][1]}; and so on: more than {AT_MOST} like it"
            self.unsure.append(f"{name}:")


def look(connection: Connection[Any], chains: Chains, invariants: Sequence[Invariant] = INVARIANTS) -> Findings:
    """Check everything once; a failing query is a finding. Raises psycopg.OperationalError without a database."""
    findings = Findings()
    for one in invariants:
        try:
            with connection.transaction():
                rows = connection.execute(one.sql + ENOUGH).fetchall()
            findings.add(one.name, rows)
        except psycopg.Error as error:
            _unchecked(connection, findings, one.name, error)
    try:
        with connection.transaction():
            rows = chains.look(connection)
        findings.add(CHAIN, rows)
    except (psycopg.Error, ValueError, TypeError) as error:
        _unchecked(connection, findings, CHAIN, error)
    return findings


def _unchecked(connection: Connection[Any], findings: Findings, name: str, error: Exception) -> None:
    """It is not known whether it holds, which is an alarm of its own; what was found before stays."""
    if connection.closed or connection.broken:
        raise error
    logger.error("%s cannot be checked: %s", name, error)
    findings.found[f"{UNCHECKED}:{name}"] = f"Nobody knows whether this holds: {name}. {str(error).strip()}"
    findings.unsure.append(f"{name}:")
