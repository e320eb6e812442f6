"""Fixtures that several of these tests share."""

from tests.backups.clusters import cluster, pitr, source
from tests.backups.company import archive, make_policy, policy, production

__all__ = ["archive", "cluster", "make_policy", "pitr", "policy", "production", "source"]
