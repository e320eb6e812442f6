"""A PostgreSQL server to throw away: what restores are proven in, and what a person may look into.

1. Everything of it is in one private folder below the servers' folder of DATA_DIR, named by the operation and the
   fence of the turn it belongs to; so whoever finds it knows whether anybody still wants it.
2. It listens on a socket in a private folder of its own (a socket's path may have 107 bytes only), never on TCP; so
   trust is enough to get in. The folder's name is written down before the folder is made.
3. A killed worker leaves the server running. Whoever takes the operation over, and the clock, end whatever works in
   a scratch that nobody wants, then delete it.
"""

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from django.conf import settings
from psycopg.sql import SQL, Identifier

from backups import programs
from controlplane.embedded.errors import StackError
from controlplane.embedded.files import last_lines
from controlplane.embedded.place import Place, prepare_place
from controlplane.embedded.processes import directory_of, end, everybody, send, spawn, wait_until
from controlplane.operations.errors import StepError

FOLDER = "scratch"
SUPERUSER = "postgres"
PORT = 5432  # only part of the socket's name
LONGEST_SOCKET_FOLDER = 90  # a socket's path may have 107 bytes, and ends with "/.s.PGSQL.5432"
READER_CONNECTIONS = 10  # one is used at a time, and those before it may not be quite gone
POLL_SECONDS = 0.05
START_SECONDS = 60.0
STOP_SECONDS = 20.0
PLACE_SECONDS = 30.0  # the first one on a machine copies the programs; a frozen one must not hold up all others

# Quick and not durable: after a crash it is not taken up again but made anew.
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "30",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",  # what is loaded into a table of the same transaction is not logged
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "maintenance_work_mem": "128MB",
    "shared_buffers": "64MB",
    "log_destination": "stderr",
    "logging_collector": "off",
    "lc_messages": "C",  # words that are looked for
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# Statements that confine a role which may only read. Event triggers first: they would run, as the superuser, on the
# others, but never on a statement about themselves. A definer's rights are the superuser's, since dumps are loaded
# without owners. Modes are named where OUT arguments could make two procedures look alike.
CONFINE = (
    "SELECT format('ALTER EVENT TRIGGER %I DISABLE', evtname) FROM pg_event_trigger WHERE evtenabled <> 'D'",
    "SELECT format('ALTER ROUTINE %I.%I(%s) SECURITY INVOKER', nspname, proname,"
    " pg_get_function_identity_arguments(p.oid))"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE prosecdef",
    # Both only where POSTGRES_PROGRAMS has them: file_fdw asks for rights when a table is made, not when it is read.
    "SELECT format('ALTER FOREIGN DATA WRAPPER %I NO HANDLER', fdwname) FROM pg_foreign_data_wrapper"
    " WHERE fdwhandler <> 0",
    "SELECT format('REVOKE EXECUTE ON ROUTINE %I.%I(%s) FROM PUBLIC', nspname, proname,"
    " pg_get_function_identity_arguments(p.oid))"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang"
    " WHERE lanispl AND NOT lanpltrusted",
)

Wait = Callable[[float], None]
# Servers that this process started and left: kept, so that their end is taken note of.
_left: list[subprocess.Popen[bytes]] = []


class Scratch:
    """A PostgreSQL server to throw away, of one turn at one operation. It listens on a socket in a private folder only.

    home: private (0700), made by `open()`: data and fetched files. data: the server's. superuser: who may do
    everything there, another one after a restore.
    """

    def __init__(self, operation_id: int, fence: int) -> None:
        self.operation_id = operation_id
        self.fence = fence
        self.place = place()
        self.home = scratches(self.place) / f"{operation_id}-{fence}"
        self.data = self.home / "data"
        self.log = self.home / "log"
        self.superuser = SUPERUSER
        self.process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Make its folder, empty. What earlier turns at the same operation left is removed."""
        for home, operation_id, fence in found(self.place):
            if operation_id == self.operation_id and fence <= self.fence:
                discard(home)
        self.home.mkdir(mode=0o700)
        self.place.own(self.home)
        folder = socket_name()
        (self.home / "socket").write_text(str(folder))
        folder.mkdir(mode=0o700)
        self.place.own(folder)

    def folder(self, name: str) -> Path:
        """A new private folder in its home, which its server can use."""
        path = self.home / name
        path.mkdir(mode=0o700)
        self.place.own(path)
        return path

    def initialise(self) -> None:
        """Make an empty cluster, UTF-8 in the order of the code points."""
        status = self.run(
            "initdb", "-D", str(self.data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8",
            "--auth=trust", "--no-sync", "--no-instructions",
        )  # fmt: skip
        if status != 0:
            raise StepError(f"A scratch server could not be made: initdb exited {status}. {self.last_words()}")

    def run(self, program: str, *arguments: str, wait: Wait = time.sleep) -> int:
        """Run one of PostgreSQL's programs as the server's account; its exit status. What it says is in the log."""
        process = self._spawn([server_program(self.place, program), *arguments])
        try:
            while process.poll() is None:
                wait(POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
            status = process.wait()
        return status

    def launch(self, **changed: str) -> None:
        """Start the server without waiting for it; `changed`: settings that differ from the usual ones."""
        values = SETTINGS | {"unix_socket_directories": str(self.socket)} | changed
        options = [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # nothing of it runs, so it can only be stale
        self.process = self._spawn([server_program(self.place, "postgres"), "-D", str(self.data), *options])

    def start(self, wait: Wait, **changed: str) -> None:
        """Start the server and wait until it accepts connections. Raises StepError with the log's last words."""
        self.launch(**changed)
        deadline = time.monotonic() + START_SECONDS
        while not self.accepts():
            if self.ended():
                raise StepError(f"The scratch server did not start. {self.last_words()}")
            if time.monotonic() > deadline:
                raise StepError(f"The scratch server did not answer within {START_SECONDS:g} s. {self.last_words()}")
            wait(POLL_SECONDS)

    def accepts(self) -> bool:
        """Whether it lets anybody in now."""
        return not self.refusal()

    def refusal(self) -> str:
        """Why it lets nobody in now; "" when it does."""
        try:
            psycopg.connect(
                host=str(self.socket), port=PORT, user=self.superuser, dbname="template1", connect_timeout=5
            ).close()
        except psycopg.OperationalError as error:
            return " ".join(str(error).split())
        return ""

    def ended(self) -> bool:
        """Whether the server that was launched is gone."""
        return self.process is None or self.process.poll() is not None

    def last_words(self) -> str:
        """The end of its log, for an error."""
        return f"Its last words:\n{last_lines(self.log)}"

    @property
    def socket(self) -> Path:
        """The folder its socket is in."""
        try:
            return Path((self.home / "socket").read_text())
        except OSError:
            raise StepError(f"The scratch server of operation {self.operation_id} is not there any more.") from None

    def server(self, database: str = "postgres", user: str = "") -> programs.Server:
        """How it is reached. user: "" for its superuser."""
        return programs.Server(str(self.socket), PORT, user or self.superuser, "", database, {})

    def reader(self, database: str) -> programs.Server:
        """How a database of it is reached by a new role that may read all of it, hidden rows too, and do nothing else.

        Whoever is let in as the superuser stays one whatever role is set, so this role logs in by itself. From now on
        every routine of the database runs with the rights of its caller.
        """
        name = f"reader_{secrets.token_hex(8)}"  # a restored cluster has roles of its own
        role, place = Identifier(name), Identifier(database)
        # A restored database may be read-only by its own settings, or closed to roles that it does not name.
        # Its own settings must not choose what the names of the superuser's statements mean, either.
        options = "-c default_transaction_read_only=off -c search_path=pg_catalog"
        with self.server(database).connect(autocommit=True, options=options) as admin:
            for statements in CONFINE:
                for (statement,) in admin.execute(statements.encode()).fetchall():
                    admin.execute(statement.encode())
            admin.execute(
                SQL(
                    "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS"
                    " CONNECTION LIMIT {} IN ROLE pg_read_all_data"
                ).format(role, READER_CONNECTIONS)
            )
            admin.execute(SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(place))
            admin.execute(SQL("GRANT CONNECT ON DATABASE {} TO {}").format(place, role))
        return self.server(database, name)

    def stop(self) -> None:
        """Shut it down in order; the files stay."""
        stop_server(self.home, signal.SIGINT)
        self._reap()

    def remove(self) -> None:
        """Stop it and delete all of it. Raises StepError when something stays."""
        discard(self.home)
        self._reap()

    def leave(self) -> None:
        """Let the server go on without this turn; whoever removes it finds it by its folder."""
        if self.process is not None:
            _left.append(self.process)
            self.process = None

    def _reap(self) -> None:
        if self.process is not None:
            self.process.wait()
            self.process = None

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        return spawn(command, log=self.log, env=environment, cwd=self.home, account=self.place.account)


def remove_leftovers(wanted: Callable[[int, int], bool]) -> int:
    """Remove every scratch of this machine whose (operation, fence) is not wanted; returns how many."""
    if not (Path(settings.DATA_DIR) / "servers").exists():
        return 0  # there never was one: nothing is made only to be looked into
    removed = 0
    for home, operation_id, fence in found(place()):
        if not wanted(operation_id, fence):
            discard(home)
            removed += 1
    _left[:] = [process for process in _left if process.poll() is None]
    return removed


def place() -> Place:
    """Where servers live here. Raises StepError."""
    data = Path(settings.DATA_DIR).resolve()
    try:
        # Two at once must not both move the folder to where the account can reach it, or copy the programs.
        lock = os.open(data / "scratch.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not wait_until(lambda: _taken(lock), PLACE_SECONDS):
                raise StepError(f"Another worker has held {data}/scratch.lock for {PLACE_SECONDS:g} s: it is frozen.")
            return prepare_place(data)
        finally:
            os.close(lock)
    except (OSError, StackError) as error:
        raise StepError(f"No scratch server can be made below {data}: {error}") from error


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def scratches(where: Place) -> Path:
    """The folder of all of them."""
    folder = where.folder / FOLDER
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        where.own(folder)
    return folder


def found(where: Place) -> Iterator[tuple[Path, int, int]]:
    """Every scratch that is there: its home, operation and fence."""
    for home in sorted(scratches(where).iterdir()):
        operation_id, _, fence = home.name.partition("-")
        if operation_id.isdecimal() and fence.isdecimal():
            yield home, int(operation_id), int(fence)


def server_program(where: Place, name: str) -> str:
    """A program that the server's account can run."""
    return programs.program(name) if settings.POSTGRES_PROGRAMS else str(where.postgres_programs / name)


def socket_name() -> Path:
    """A name for a socket's folder that nobody has, short enough."""
    name = f"cp-{secrets.token_hex(8)}"
    folder = Path(tempfile.gettempdir()) / name
    return folder if len(bytes(folder)) <= LONGEST_SOCKET_FOLDER else Path("/tmp") / name  # noqa: S108


def stop_server(home: Path, number: signal.Signals) -> None:
    """Ask the server in the home to shut down, then end whatever still works there."""
    workers = working_below(home)
    try:
        postmaster = int((home / "data" / "postmaster.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        postmaster = 0
    if postmaster in workers:
        send(postmaster, number)
        for pid in workers:
            send(pid, signal.SIGCONT)  # a frozen process would never see it
        wait_until(lambda: not working_below(home), STOP_SECONDS)
    try:
        end(working_below(home), signal.SIGKILL, STOP_SECONDS)
    except StackError as error:
        raise StepError(f"The scratch server in {home} does not stop: {error}") from error


def working_below(home: Path) -> list[int]:
    """The processes whose working directory is the home or below it: the server's and its programs'."""
    inside = []
    for process in everybody():
        directory = directory_of(process.pid)
        if directory is not None and directory.is_relative_to(home):
            inside.append(process.pid)
    return inside


def discard(home: Path) -> None:
    """End what works in a scratch and delete it, the folder of its socket too. Raises StepError."""
    stop_server(home, signal.SIGQUIT)
    try:
        shutil.rmtree((home / "socket").read_text(), ignore_errors=True)
    except OSError:
        pass  # killed before it had one
    shutil.rmtree(home, ignore_errors=True)
    if home.exists():
        raise StepError(f"{home}, a scratch server nobody needs any more, cannot be deleted; delete it by hand.")
