"""What the system can see for itself of the runbook's tasks: whether it holds, in words, and where the proof is.

A check never guesses. Where there is nothing to look at (no policy, no source of alerts, no record of updates) it does
not hold, says so, and leaves the tick to a person.
"""

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import connection
from django.urls import reverse

from backups.freshness import latest_of
from backups.models import Backup, Policy, Storage
from backups.overview import views_of
from backups.programs import Server
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from controlplane.web.tones import Tone
from environments.models import Environment, Placement
from environments.samples import health_of
from incidents.models import Alert, AlertSource, DatabaseProbe

LEFT = "a person has to look"
NAMED = 3
# Of a disk: less than this is not enough.
FREE = 0.15
PROVEN_WITHIN = timedelta(days=7)
DRILL_WITHIN = timedelta(days=31)
DRILLS = ("drill", "dr-drill", "failover-drill")
# Debian and Ubuntu write here what could be installed; an old file says nothing about now.
UPDATES = Path("/var/lib/update-notifier/updates-available")
UPDATES_FRESH = timedelta(days=2)
# A table needs care with so many dead rows, if they are this part of it.
DEAD_ROWS, DEAD_PART = 10_000, 0.2
ANALYZED_WITHIN = timedelta(days=7)
CONNECT = {"connect_timeout": 3, "options": "-c statement_timeout=5000", "autocommit": True}

TABLES = """
    SELECT relname, n_dead_tup, n_live_tup, greatest(last_vacuum, last_autovacuum),
        greatest(last_analyze, last_autoanalyze), n_mod_since_analyze
    FROM pg_stat_user_tables WHERE n_live_tup + n_dead_tup > 1000 ORDER BY n_dead_tup DESC LIMIT 200
"""


@dataclass(frozen=True)
class Seen:
    """What a check saw. ok: it holds, and the run may be ticked. url: of the proof, a page of ours."""

    ok: bool
    words: str
    url: str = ""


# --- Health -------------------------------------------------------------------------------------------


def health() -> Seen:
    """Every instance of every service answered well lately ("check system health dashboards")."""
    placements = list(Placement.objects.exclude(version="").select_related("environment", "service"))
    if not placements:
        return Seen(False, f"Nothing is deployed anywhere yet; {LEFT}.")
    seen = health_of(placements)
    wrong = [f"{place}: {seen[place.pk].word}" for place in placements if seen[place.pk].tone != Tone.OK]
    if wrong:
        return Seen(False, f"Not well: {_some(wrong)}.", reverse("board"))
    count = sum(len(seen[place.pk].instances) for place in placements)
    return Seen(True, f"All {count} instances of {len(placements)} places answer well.", reverse("board"))


def security_alerts() -> Seen:
    """No alert labelled category=security fires ("review security alerts")."""
    if not AlertSource.objects.exclude(kind=AlertSource.Kind.OWN).filter(paused=False).exists():
        return Seen(False, f"No source of alerts is set up, so silence says nothing; {LEFT}.", reverse("alerts"))
    firing = Alert.objects.filter(state=Alert.State.FIRING, labels__category="security").order_by("-pk")
    names = [f"{alert.name}: {alert.summary}" for alert in firing[: NAMED + 1]]
    if names:
        return Seen(False, f"Firing: {_some(names)}.", reverse("alerts"))
    return Seen(True, "No alert labelled category=security fires.", reverse("alerts"))


# --- Backups ------------------------------------------------------------------------------------------


def backup_completion() -> Seen:
    """Every policy has a backup that is fresh enough, and no alert ("check backup completion")."""
    policies = list(Policy.objects.filter(paused=False).select_related("environment", "storage", "clock", "wal"))
    if not policies:
        return Seen(False, f"Nothing is backed up yet; {LEFT}.", reverse("backups"))
    views = views_of(policies, database_time(), with_active=False)
    wrong = [f"{view.policy}: {view.word}" for view in views if view.alerts or view.rpo.tone == Tone.BAD]
    if wrong:
        return Seen(False, f"Not as promised: {_some(wrong)}.", reverse("backups"))
    return Seen(True, f"All {len(policies)} policies have a backup as fresh as promised.", reverse("backups"))


def backup_restoration() -> Seen:
    """A backup was restored for a test, and was whole, in the last seven days ("backup restoration test")."""
    proven = [one.proven for one in latest_of(Policy.objects.all(), 1).values() if one.proven]
    newest: Backup | None = max(proven, key=lambda one: one.tested_at or one.as_of, default=None)
    if newest is None or newest.tested_at is None:
        return Seen(False, "No backup was ever restored for a test.", reverse("backups"))
    which = f"{newest.environment.slug}/{newest.policy_slug}"
    words = f"{which} was restored for a test and was whole, {_at(newest.tested_at)}"
    fresh = newest.tested_at > database_time() - PROVEN_WITHIN
    return Seen(fresh, f"{words}." if fresh else f"The last time: {words}.", newest.get_absolute_url())


def recovery_drill() -> Seen:
    """A disaster-recovery drill succeeded in the last month ("disaster recovery drill")."""
    drills = Operation.objects.filter(kind__in=DRILLS, state=State.SUCCEEDED).only("pk", "title", "finished_at")
    last = drills.order_by("-pk").first()
    if last is None or last.finished_at is None:
        return Seen(False, "No drill was ever recorded.")
    fresh = last.finished_at > database_time() - DRILL_WITHIN
    return Seen(fresh, f"{last.title} succeeded, {_at(last.finished_at)}.", last.get_absolute_url())


# --- The computer -------------------------------------------------------------------------------------


def disk_space() -> Seen:
    """The data folder and the folders of backups have enough room ("monitor disk space")."""
    folders = {"data": Path(settings.DATA_DIR)}
    for storage in Storage.objects.filter(kind="folder"):
        folders[f"storage {storage.slug}"] = Path(settings.DATA_DIR) / str(storage.settings.get("path", ""))
    found, wrong = [], []
    for name, folder in folders.items():
        try:
            usage = shutil.disk_usage(_that_exists(folder))
        except OSError as error:
            wrong.append(f"{name} cannot be looked at ({error.strerror})")
            continue
        part = usage.free / usage.total
        found.append(f"{name} {part:.0%} free")
        if part < FREE:
            wrong.append(f"{name} has only {part:.0%} free")
    if wrong:
        return Seen(False, f"Not enough room: {_some(wrong)}.", reverse("backups"))
    return Seen(True, f"Enough room, {', '.join(found)}.", reverse("backups"))


def _that_exists(folder: Path) -> Path:
    """A folder below the data folder is made with its first backup; until then its parent stands for it."""
    data = Path(settings.DATA_DIR)
    return folder if folder.exists() or not folder.is_relative_to(data) else data


def system_updates() -> Seen:
    """No security update of the operating system waits ("security patches"); only of this computer is it known."""
    elsewhere = Environment.objects.exclude(driver="local").exists()
    try:
        text, written = UPDATES.read_text(encoding="utf-8", errors="replace"), UPDATES.stat().st_mtime
    except OSError:
        return Seen(False, f"This computer keeps no record of pending updates; {LEFT}.")
    if datetime.fromtimestamp(written, UTC) < database_time() - UPDATES_FRESH:
        return Seen(False, f"The record of pending updates is of {_at(datetime.fromtimestamp(written, UTC))}; {LEFT}.")
    counts = [int(number) for number in re.findall(r"^(\d+)\b", text, re.MULTILINE)]
    security = re.search(r"^(\d+) .*security", text, re.MULTILINE)
    if not counts and text.strip():
        return Seen(False, f"The record of pending updates cannot be understood; {LEFT}.")
    pending = int(security[1]) if security else max(counts, default=0)
    words = f"{pending} {'security ' if security else ''}updates wait on the computer of the control plane"
    if elsewhere:
        return Seen(False, f"{words}. Of the other hosts nothing is known here; {LEFT}.")
    return Seen(pending == 0, f"{words}.")


# --- Databases ----------------------------------------------------------------------------------------


def database_maintenance() -> Seen:
    """The databases that are probed are vacuumed and analysed ("database maintenance (VACUUM, ANALYZE)")."""
    probes = list(DatabaseProbe.objects.select_related("environment"))
    if not probes:
        with connection.cursor() as cursor:
            cursor.execute(TABLES)
            wrong = _neglected(cursor.fetchall(), database_time())
        own = f"needs care: {_some(wrong)}" if wrong else "is in order"
        return Seen(False, f"No database of an environment is probed; the control plane's own {own}. Then {LEFT}.")
    wrong = [words for probe in probes for words in _look_at(probe)]
    if wrong:
        return Seen(False, f"Needs care: {_some(wrong)}.")
    names = ", ".join(probe.environment.slug for probe in probes)
    return Seen(True, f"Dead rows are few and statistics fresh in the databases of {names}.")


def _look_at(probe: DatabaseProbe) -> list[str]:
    """What is wrong with one database; nobody waits for one that does not answer."""
    place = probe.environment.slug
    try:
        with Server.at(probe.reference).connect(**CONNECT) as session:
            rows = session.execute(TABLES).fetchall()
            now = session.execute("SELECT now()").fetchone()
    except StepError as error:
        return [f"{place}: {error}"]
    except psycopg.Error as error:
        return [f"{place}: {' '.join(str(error).split())}"]
    assert now is not None
    return [f"{place}: {words}" for words in _neglected(rows, now[0])]


def _neglected(rows: Iterable[tuple[object, ...]], now: datetime) -> list[str]:
    wrong = []
    for name, dead, live, _, analyzed, changed in rows:
        assert isinstance(dead, int)
        assert isinstance(live, int)
        assert isinstance(changed, int)
        if dead > DEAD_ROWS and dead > DEAD_PART * (dead + live):
            wrong.append(f"{name} has {dead} dead rows beside {live}")
        elif changed > DEAD_ROWS and changed > DEAD_PART * live:
            fresh = isinstance(analyzed, datetime) and analyzed > now - ANALYZED_WITHIN
            if not fresh:
                wrong.append(f"{name} changed by {changed} rows since it was analysed")
    return wrong


def _some(words: list[str]) -> str:
    more = len(words) - NAMED
    return "; ".join(words[:NAMED]) + (f"; and {more} more" if more > 0 else "")


def _at(at: datetime) -> str:
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %H:%M} UTC"


CHECKS: dict[str, Callable[[], Seen]] = {
    "health": health,
    "disk-space": disk_space,
    "backup-completion": backup_completion,
    "security-alerts": security_alerts,
    "database-maintenance": database_maintenance,
    "backup-restoration": backup_restoration,
    "recovery-drill": recovery_drill,
    "system-updates": system_updates,
}
