"""Kinds of databases that a recovery plan can bring up elsewhere: one file each, all of them in one dict."""

from backups.disaster.base import Database
from backups.disaster.databases.postgres import PostgresDatabase
from backups.disaster.databases.rds import RdsDatabase

DATABASES: dict[str, Database] = {part.kind: part for part in (PostgresDatabase(), RdsDatabase())}
