"""What the auditor is told by the environment; it reads no settings of Django."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class WrongSetting(Exception):
    """A setting that cannot be, in words."""


@dataclass(frozen=True)
class Settings:
    """All of them; "" is none. name: of this process, unique among all auditors."""

    database_url: str
    name: str
    seconds: float = 10.0
    alarm_url: str = ""
    alarm_mail: str = ""
    heartbeat_url: str = ""


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Read them, also from files (`NAME_FILE`). Raises WrongSetting."""

    def read(name: str, default: str = "") -> str:
        if path := environ.get(f"{name}_FILE"):
            try:
                return Path(path).read_text().strip()
            except OSError as error:
                raise WrongSetting(f"{name}_FILE cannot be read: {error.strerror}") from error
        return environ.get(name, default).strip()

    database_url = read("DATABASE_URL")
    if not database_url:
        raise WrongSetting("DATABASE_URL is required: where the incidents are")
    try:
        seconds = float(read("AUDITOR_SECONDS", "10"))
    except ValueError as error:
        raise WrongSetting("AUDITOR_SECONDS is a number of seconds") from error
    if not 0.1 <= seconds <= 15:
        raise WrongSetting("AUDITOR_SECONDS is from 0.1 to 15, or a fault is not found within 30 s")
    return Settings(
        database_url=database_url,
        name=f"{socket.gethostname()}:{os.getpid()}",
        seconds=seconds,
        alarm_url=_web("AUDITOR_ALARM_URL", read("AUDITOR_ALARM_URL")),
        alarm_mail=read("AUDITOR_ALARM_MAIL"),
        heartbeat_url=_web("AUDITOR_HEARTBEAT_URL", read("AUDITOR_HEARTBEAT_URL")),
    )


def _web(name: str, url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise WrongSetting(f"{name} begins with https:// (or http://)")
    return url
