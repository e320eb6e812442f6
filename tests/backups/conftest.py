"""Fixtures that several of these tests share."""

from tests.backups.clusters import cluster, pitr, source

__all__ = ["cluster", "pitr", "source"]
