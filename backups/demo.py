"""The demo of `bin/run`: production gets a real database with real data, uploads, a key, and its first backups."""

import os
import random
from pathlib import Path

from django.conf import settings
from psycopg import Connection

from backups.models import Backup, BackupRun, Policy
from backups.programs import Server
from backups.sealing import new_identity
from backups.services import request_backup
from controlplane.accounts.access import Machine
from controlplane.audit.record import SYSTEM
from environments.models import Environment

DEMO = Machine(SYSTEM("demo"))
URL = "DEMO_DATABASE_URL"
ENVIRONMENT = "production"
# More than 200 MB of rows.
USERS, PITCHES, VIEWS = 50_000, 150_000, 900_000
UPLOADS = 60

SCHEMA = """
CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE, name text NOT NULL,
    role text NOT NULL, created_at timestamptz NOT NULL, settings jsonb NOT NULL
);
CREATE TABLE pitches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, title text NOT NULL,
    logline text NOT NULL, budget numeric(12, 2), status text NOT NULL, body text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE views (
    pitch_id bigint NOT NULL, viewer_id bigint, at timestamptz NOT NULL, seconds integer NOT NULL, address inet
);
CREATE TABLE messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), sender_id bigint NOT NULL, receiver_id bigint NOT NULL,
    body text NOT NULL, sent_at timestamptz NOT NULL
);
"""
# Words instead of random bytes, so that it compresses as real text does.
FILL = """
INSERT INTO users (email, name, role, created_at, settings)
SELECT 'person' || n || '@example.org', 'Person ' || n, (ARRAY['creator', 'investor', 'production'])[1 + n % 3],
    now() - n * interval '11 minutes', jsonb_build_object('theme', 'dark', 'score', (n * 7919) % 1000)
FROM generate_series(1, %(users)s) n;
INSERT INTO pitches (user_id, title, logline, budget, status, body, created_at)
SELECT 1 + (n * 31) % %(users)s, 'Pitch ' || n || ' about ' || substr(md5(n::text), 1, 8),
    'A ' || substr(md5((n * 3)::text), 1, 12) || ' meets a ' || substr(md5((n * 5)::text), 1, 12),
    (n * 37 %% 9000000) + 0.5, (ARRAY['draft', 'review', 'published'])[1 + n % 3],
    (SELECT string_agg(md5((n * 13 + k)::text) || ' and then ', '') FROM generate_series(1, 18) k),
    now() - n * interval '5 minutes'
FROM generate_series(1, %(pitches)s) n;
INSERT INTO views SELECT 1 + (n * 17) % %(pitches)s, 1 + (n * 23) % %(users)s, now() - n * interval '2 seconds',
    n % 600, ('10.' || n % 250 || '.' || n / 250 % 250 || '.7')::inet FROM generate_series(1, %(views)s) n;
INSERT INTO messages (sender_id, receiver_id, body, sent_at)
SELECT 1 + n % %(users)s, 1 + (n * 7) % %(users)s, 'About pitch ' || n || ': ' || md5(n::text) || md5((n + 1)::text),
    now() - n * interval '1 minute' FROM generate_series(1, %(users)s) n;
CREATE INDEX pitches_user ON pitches (user_id);
CREATE INDEX views_at ON views (at);
"""


def prepare() -> None:
    """Bring it up; quick when it is there. Without a database of its own there is nothing to do."""
    url = os.environ.get(URL, "")
    if not url or not Environment.objects.filter(slug=ENVIRONMENT).exists():
        return
    _write_secret("database-url", url, replace=True)  # its port may be another one after a restart
    _write_secret("backup-key", new_identity()[0])
    _make_uploads(Path(settings.DATA_DIR) / "uploads")
    _make_database(Server.of_url(url))
    policies = Policy.objects.filter(environment__slug=ENVIRONMENT).select_related("environment", "storage")
    for policy in policies if not (BackupRun.objects.exists() or Backup.objects.exists()) else ():
        request_backup(DEMO, policy, reason="demo: the first one", cause=BackupRun.Cause.SCHEDULE)


def _write_secret(name: str, value: str, *, replace: bool = False) -> None:
    path = Path(settings.DATA_DIR) / "secrets" / ENVIRONMENT / name
    if path.exists() and not replace:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{name}.draft")
    draft.touch(mode=0o600)
    draft.write_text(value)
    draft.rename(path)


def _make_uploads(folder: Path) -> None:
    """A few megabytes of files, the same each time."""
    if folder.exists():
        return
    draft = folder.with_name("uploads.draft")
    source = random.Random(1)  # noqa: S311 - files to look at, no secret
    for number in range(UPLOADS):
        path = draft / f"pitch-{number % 12:02}" / f"document-{number:03}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(1024 * source.randint(4, 200)))
    draft.rename(folder)


def _make_database(server: Server) -> None:
    """All in one transaction: there is all of it, or it is made by the next start."""
    with server.named("postgres").connect(autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [server.database]).fetchone()
        if not known:
            connection.execute(f'CREATE DATABASE "{server.database}"')
    with server.connect() as connection:
        if connection.execute("SELECT to_regclass('public.users')").fetchone() == (None,):
            _fill(connection)


def _fill(connection: "Connection[tuple[object, ...]]") -> None:
    counts = {"users": USERS, "pitches": PITCHES, "views": VIEWS}
    statements = FILL
    for name, count in counts.items():
        statements = statements.replace(f"%({name})s", str(count))
    connection.execute(SCHEMA.encode())
    connection.execute(statements.replace("%%", "%").encode())
