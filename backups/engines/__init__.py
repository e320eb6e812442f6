"""How each kind of backup is made."""

from backups.engines.base import Engine

ENGINES: dict[str, Engine] = {}
