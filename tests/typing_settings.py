"""The settings as mypy reads them: nothing is connected to, so any well-formed value will do."""

import os

os.environ.setdefault("SECRET_KEY", "for-type-checking-only")
os.environ.setdefault("DATABASE_URL", "postgres://nobody@127.0.0.1/nothing")
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1/0")

from controlplane.settings import *  # noqa: F403
