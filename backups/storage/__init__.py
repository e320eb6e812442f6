"""Where backups are kept."""

from backups.models import Storage
from backups.storage.base import Store, StoreKind
from backups.storage.folder import FolderKind
from backups.storage.s3 import S3Kind

STORES: dict[str, StoreKind] = {"folder": FolderKind(), "s3": S3Kind()}


def open_store(storage: Storage) -> Store:
    """The storage itself. Raises KeyError for a kind that there is not, StepError when it cannot be opened."""
    return STORES[storage.kind].open(storage.settings)
