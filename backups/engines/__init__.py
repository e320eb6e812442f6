"""How each kind of backup is made."""

from backups.engines.base import Engine
from backups.engines.configuration import ConfigurationEngine
from backups.engines.database import DatabaseEngine
from backups.engines.images import ImagesEngine
from backups.engines.pitr import PitrEngine
from backups.engines.uploads import UploadsEngine

ENGINES: dict[str, Engine] = {
    "database": DatabaseEngine(),
    "pitr": PitrEngine(),
    "uploads": UploadsEngine(),
    "images": ImagesEngine(),
    "configuration": ConfigurationEngine(),
}
