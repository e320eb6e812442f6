"""The auditor's loop.

1. Every AUDITOR_SECONDS it looks at every invariant, over a connection of its own.
2. What it finds becomes rows, each alarm once; what it finds no more is over.
3. What its own channel has not taken yet, it tells again at each look, until it is taken.
4. After a good look it beats, in the database and outside. Whoever gets the beats outside knows when they end.
5. A database that is away, or does not answer in time, is an alarm of its own, told without any row.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psycopg

from incidents.auditor import alarm, ledger
from incidents.auditor.chain import Chains
from incidents.auditor.ledger import Alarm
from incidents.auditor.looks import look
from incidents.auditor.settings import Settings

logger = logging.getLogger("auditor")

LOOK_SECONDS = 20.0
DATABASE = "database"


class Auditor:
    """One of them; any number may run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = threading.Event()
        self._chains = Chains()
        self._connection: psycopg.Connection[Any] | None = None
        self._away: Alarm | None = None  # the database, and whether that was told
        self._away_told = False
        self._over: list[Alarm] = []  # still to be told
        self._logged: set[str] = set()

    def run(self) -> None:
        """Look until `stopping` is set; nothing ends it before. The first look waits for clocks to start."""
        while not self.stopping.wait(self.settings.seconds):
            try:
                self.once()
            except Exception:
                logger.exception("this look failed; there will be another one")
                self._close()

    def once(self) -> bool:
        """One look with all that comes of it; whether the database could be asked."""
        try:
            alarm.within(LOOK_SECONDS, self._look)
            self._tell()
        except (psycopg.Error, alarm.TooLong) as error:
            self._close()
            self._tell_database(str(error).strip())
            return False
        if self.settings.heartbeat_url:
            try:
                alarm.get(self.settings.heartbeat_url)
            except alarm.NotSent as error:
                logger.warning("the heartbeat was not taken: %s", error)
        return True

    def _look(self) -> None:
        connection = self._connected()
        findings = look(connection, self._chains)
        self._over += ledger.settle(connection, findings.found, findings.unsure)
        ledger.beat(connection, self.settings.name)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self.settings.database_url, autocommit=True, connect_timeout=5, application_name="auditor",
                options="-c statement_timeout=8000 -c lock_timeout=3000", tcp_user_timeout=10_000,
            )  # fmt: skip
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                alarm.within(2.0, connection.close)

    # --- telling --------------------------------------------------------------------------------------

    def _tell(self) -> None:
        if self._away is not None:
            self._over.append(self._away)
            self._away, self._away_told = None, False
        connection = self._connected()
        new = ledger.untold(connection)
        if (new or self._over) and self._send(new, self._over):
            ledger.told(connection, new)
            self._over = []
        self._over = self._over[-ledger.AT_ONCE :]

    def _tell_database(self, words: str) -> None:
        if self._away is None:
            text = f"The database of incidents cannot be asked: {words}"
            self._away = Alarm(0, DATABASE, text, datetime.now(UTC))
        if not self._away_told:
            self._away_told = self._send([self._away], [])

    def _send(self, new: Collection[Alarm], over: Collection[Alarm]) -> bool:
        """By every way that is configured, and to the log; whether each way took it."""
        lines = [f"{one.words} [{one.key}]" for one in new] + [f"Over: {one.words} [{one.key}]" for one in over]
        for line in lines:
            if line not in self._logged:
                sys.stderr.write(f"{line}\n")
        self._logged = set(lines)  # what nobody takes comes again at each look
        taken = bool(self.settings.alarm_url or self.settings.alarm_mail)
        try:
            if self.settings.alarm_url:
                alarm.post(self.settings.alarm_url, _message(self.settings.name, new, over))
        except alarm.NotSent as error:
            logger.error("the alarm was not taken, it is told again: %s", error)
            taken = False
        try:
            if self.settings.alarm_mail:
                alarm.mail(self.settings.alarm_mail, lines)
        except alarm.NotSent as error:
            logger.error("the mail was not taken, it is sent again: %s", error)
            taken = False
        return taken


def _message(name: str, new: Collection[Alarm], over: Collection[Alarm]) -> dict[str, Any]:
    return {
        "auditor": name,
        "alarms": [{"key": one.key, "words": one.words, "raised_at": one.raised_at.isoformat()} for one in new],
        "over": [{"key": one.key, "words": one.words} for one in over],
    }
