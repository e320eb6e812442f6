"""The demo's sample service has no use for a database, so nobody would be connected to the demo's.

This stands for its pool: one connection for each instance of production that runs. Kill them all, and nobody is: the
guide's DatabaseConnectionFailure fires for real. Registered only by the demo.
"""

from typing import Any

import psycopg

from backups.programs import Server
from controlplane.operations.errors import StepError
from incidents.demo import ENVIRONMENT, breakable
from incidents.models import DatabaseProbe

NAME = "pitchey-backend"
_held: dict[str, "psycopg.Connection[tuple[Any, ...]]"] = {}


def hold() -> int:
    """Open what is missing, close what belongs to an instance that is gone; returns how many are open."""
    probe = DatabaseProbe.objects.filter(environment__slug=ENVIRONMENT).first()
    running = {one.name for one in breakable() if one.runs} if probe else set()
    for name in list(_held):
        if name not in running or not _lives(_held[name]):
            _held.pop(name).close()
    if probe is None:
        return 0
    try:
        server = Server.at(probe.reference)
        for name in sorted(running - _held.keys()):
            _held[name] = server.connect(application_name=f"{NAME} {name}", autocommit=True)
    except StepError:
        return len(_held)  # it is not there yet, or just restored
    return len(_held)


def _lives(connection: "psycopg.Connection[tuple[Any, ...]]") -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
