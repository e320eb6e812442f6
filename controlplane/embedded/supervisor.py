"""`bin/run`: everything of the control plane on this computer, until Ctrl-C.

1. Hold the data folder, and end what a killed supervisor left behind.
2. Start PostgreSQL and Redis where DATABASE_URL and REDIS_URL are not set; see meanwhile whether containers run here.
3. Prepare the database and the demo.
4. Run web, worker and clock; start again what ends, with back-off; say the address once the web process answers.
5. On SIGINT, SIGTERM or SIGHUP stop the demo's customers, clock, worker and web in this order, then the demo's
   instances, then Redis and PostgreSQL. Every wait is bounded; a second Ctrl-C shortens them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from threading import Event

from . import podman, processes
from .containers import ENVIRONMENT, MEND, Choice, Wish, look, podman_of
from .errors import StackError
from .files import last_lines, read_json, write_private_json
from .lock import hold
from .people import ensure_passwords, sign_ins
from .place import CHECKOUT
from .processes import boot, end, members_of_session, spawn, stop, wait_until
from .stack import Stack, open_data_folder

SAMPLE = CHECKOUT / "controlplane" / "samples" / "pitchey.toml"

# No proxy stands in front here, so nobody's word is taken for where a request comes from.
BARE = ["--no-server-header", "--no-proxy-headers"]
WATCH_SECONDS = 0.2
ANSWER_SECONDS = 90.0
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 60.0
LEFTOVER_SECONDS = 8.0
STOP_SECONDS = 45.0
LOG_BYTES = 20_000_000


@dataclass
class Program:
    """A process that should always run: how it is started, and how long it may take to stop."""

    name: str
    command: list[str]
    stop_seconds: float
    env: dict[str, str] = field(default_factory=dict)
    process: Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    delay: float = FIRST_DELAY_SECONDS


def programs(port: int, workers: int) -> list[Program]:
    """In the order in which they stop: who begins work first, who shows it last."""
    python = sys.executable
    celery = ["celery", "-A", "controlplane.celery", "worker", "-P", "prefork", "-c", str(workers), "--loglevel=INFO"]
    uvicorn = ["uvicorn", "controlplane.asgi:application", "--host", "127.0.0.1", "--port", str(port)]
    return [
        Program("clients", [python, "-P", "-m", "controlplane.embedded.clients"], stop_seconds=3),
        Program("clock", [python, str(CHECKOUT / "manage.py"), "clock"], stop_seconds=5),
        Program("wal", [python, str(CHECKOUT / "manage.py"), "wal_receiver"], stop_seconds=8),
        # Not by manage.py: it has to start also when the control plane does not.
        Program("auditor", [python, "-P", "-m", "incidents.auditor"], stop_seconds=3),
        Program("providers", [python, "-I", "-S", str(Path(__file__).with_name("providers.py"))], stop_seconds=2),
        Program("names", [python, "-I", "-S", str(Path(__file__).with_name("name_switch.py"))], stop_seconds=2),
        Program("worker", [python, "-P", "-m", *celery, "--without-gossip", "--without-mingle"], stop_seconds=12),
        Program(
            "web",
            [python, "-P", "-m", *uvicorn, "--timeout-graceful-shutdown", "5", "--no-access-log", *BARE],
            stop_seconds=8,
            env={"DATABASE_POOL_SIZE": "10"},
        ),
    ]


class Supervisor:
    """Runs the programs of one data folder, whose lock the caller holds."""

    def __init__(self, stack: Stack, port: int, programs: list[Program]) -> None:
        self.stack = stack
        self.data = stack.data
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self.programs = programs
        self.stopping = Event()
        self.hurry = Event()
        self.since = time.strftime("%Y-%m-%d %H:%M:%S %Z")

    def on_signal(self, number: int, frame: object) -> None:
        (self.hurry if self.stopping.is_set() else self.stopping).set()

    @property
    def env(self) -> dict[str, str]:
        # Plain HTTP is right on loopback only; a real installation has TLS in front (settings: HTTPS).
        path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        ours = {"HTTPS": "false", "SITE_URL": self.address}
        return ours | os.environ | self.stack.env | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}

    def record(self) -> None:
        """Write down what runs: for bin/manage, and for the next start should this one be killed."""
        running = {
            program.name: {"pid": process.pid, "started": process.started}
            for program in self.programs
            if program.process is not None and (process := processes.look(program.process.pid)) is not None
        }
        write_private_json(
            self.data / "stack.json",
            {
                "pid": os.getpid(),
                "boot": boot(),
                "since": self.since,
                "url": self.address,
                "port": self.port,
                "env": {name: self.env[name] for name in ("HTTPS", "SITE_URL")} | self.stack.env,
                "running": running,
            },
        )

    # --- Before --------------------------------------------------------------------------------

    def prepare(self, wish: Wish = Wish.NEVER, choice: Choice | None = None) -> None:
        """Bring database, configuration and demo up to date, which is quick when there is nothing to do.

        choice: whether containers run here, see containers.look.
        """
        say("setup", "bringing database, configuration and demo up to date")
        ensure_passwords(self.data, SAMPLE)
        choice = choice or look(self.data, wish)
        if not choice.why:
            choice = self.start_engine()
        self.insist(wish, choice)
        choice.keep(self.data)
        if self.python("-P", "-m", "controlplane.embedded.prepare", str(SAMPLE)) != 0 and not self.stopping.is_set():
            log = self.data / "logs" / "setup.log"
            raise StackError(f"The setup failed. Its last words (all of them in {log}):\n{last_lines(log, 20)}")
        if not self.stopping.is_set():
            choice = Choice.kept(self.data)  # where nothing but this folder's past is in the way
            self.insist(wish, choice)
            say(ENVIRONMENT, choice.words)
            self.stack.env["DEMO_NOTES"] = json.dumps({ENVIRONMENT: choice.words})

    def insist(self, wish: Wish, choice: Choice) -> None:
        """Go no further without containers where they were asked for. Raises StackError."""
        if wish is Wish.ALWAYS and choice.why:
            words = f"{ENVIRONMENT} cannot run in containers: {choice.why}. {choice.how}".strip()
            raise StackError(f"{words} Without --containers it runs as local processes.")

    def start_engine(self) -> Choice:
        """The service of the data folder's own Podman, which runs like the other programs and stops after them."""
        ours = podman_of(self.data)
        command = [sys.executable, "-P", "-m", "controlplane.embedded.podman", str(ours.folder)]
        engine = Program("engine", command, stop_seconds=5)
        self.programs.append(engine)
        self.watch_program(engine)
        process = engine.process
        assert process is not None
        if wait_until(lambda: ours.answers() or process.poll() is not None, podman.START_SECONDS) and ours.answers():
            return Choice()
        self.programs.remove(engine)
        stop(process, signal.SIGTERM, engine.stop_seconds, self.hurry)
        log = self.data / "logs" / "engine.log"
        return Choice(f"Podman's service does not start ({last_lines(log, 1)})", MEND)

    def python(self, *arguments: str, seconds: float = 600.0) -> int:
        """Run Python to its end; a signal to stop ends it early. Returns its exit status."""
        log = self.data / "logs" / "setup.log"
        process = spawn([sys.executable, *arguments], log=log, env=self.env, cwd=CHECKOUT)
        deadline = time.monotonic() + seconds
        interrupt = self.hurry if self.stopping.is_set() else self.stopping
        while process.poll() is None and time.monotonic() < deadline and not interrupt.wait(0.02):
            pass
        stop(process, signal.SIGTERM, 5)
        return process.returncode

    # --- Meanwhile -----------------------------------------------------------------------------

    def watch(self) -> None:
        """Start what does not run, until a signal arrives."""
        answered, deadline = False, time.monotonic() + ANSWER_SECONDS
        while not self.stopping.is_set():
            self.watch_servers()
            for program in self.programs:
                self.watch_program(program)
            if not answered and time.monotonic() > deadline:
                raise StackError(
                    f"The web process does not answer at {self.address}/healthz. Its last words:\n"
                    + last_lines(self.data / "logs" / "web.log", 20)
                )
            if not answered and answers(self.port):
                answered = True
                self.welcome()
            self.stopping.wait(WATCH_SECONDS if answered else 0.05)

    def watch_servers(self) -> None:
        stack = self.stack
        servers = {
            "postgres": stack.postgres, "redis": stack.redis, "company": stack.company, "company-dr": stack.company_dr
        }  # fmt: skip
        for name, server in servers.items():
            if server is not None and server.ended():
                say(name, "ended unexpectedly; starting it again")
                try:
                    server.start()
                except StackError as error:
                    if server is not stack.company_dr:
                        raise
                    say(name, f"cannot be started now: {str(error).splitlines()[0]}")  # it copies another server
        stack.tend()

    def watch_program(self, program: Program) -> None:
        now = time.monotonic()
        if program.process is not None:
            status = program.process.poll()
            if status is None:
                return
            stop(program.process, signal.SIGKILL, 0)  # what its children left
            program.process = None
            if now - program.started > STEADY_SECONDS:
                program.delay = FIRST_DELAY_SECONDS
            program.due = now + program.delay
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            log = self.data / "logs" / f"{program.name}.log"
            say(program.name, f"{how}; starting it again in {program.delay:g} s (log: {log})")
            program.delay = min(program.delay * 2, LONGEST_DELAY_SECONDS)
        if now >= program.due:
            log = self.data / "logs" / f"{program.name}.log"
            program.process = spawn(program.command, log=log, env={**program.env, **self.env}, cwd=CHECKOUT)
            program.started = now
            self.record()

    def welcome(self) -> None:
        print(f"\n  Control plane   {self.address}\n")
        for line in sign_ins(self.data, SAMPLE):
            print(f"  {line}")
        print(f"\n  Logs are in {self.data / 'logs'}. Ctrl-C stops everything.\n", flush=True)

    # --- After ---------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """The ordered stop. Redis and PostgreSQL are stopped by the stack, after this."""
        self.stopping.set()
        for program in self.programs:
            if program.process is not None:
                say(program.name, "stopping")
                stop(program.process, signal.SIGTERM, program.stop_seconds, self.hurry)
                program.process = None
        say("demo", "stopping its instances")
        if self.stack.env and self.python(str(CHECKOUT / "manage.py"), "demo", "--stop", seconds=STOP_SECONDS) != 0:
            say("demo", f"its instances may still run; see {self.data / 'logs' / 'setup.log'}")
        podman_of(self.data).leave()
        (self.data / "stack.json").unlink(missing_ok=True)


def say(who: str, what: str) -> None:
    with suppress(OSError):  # the terminal may be closed already, and the stop goes on
        print(f"[{who}] {what}", flush=True)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        with connection.getresponse() as response:
            return response.status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def end_leftovers(data: Path) -> None:
    """End the programs of a supervisor that was killed: those that lead get a chance to tidy up, then all go."""
    record = read_json(data / "stack.json")
    running = record["running"] if record.get("boot") == boot() else {}
    members = {name: members_of_session(leader["pid"], leader["started"]) for name, leader in running.items()}
    for name in filter(members.get, members):
        say(name, "is still there from a start that was killed; ending it")
    end([running[name]["pid"] for name in members if members[name]], signal.SIGTERM, LEFTOVER_SECONDS)
    for leader in running.values():
        end(members_of_session(leader["pid"], leader["started"]), signal.SIGKILL, LEFTOVER_SECONDS)
    (data / "stack.json").unlink(missing_ok=True)


def rotate_logs(folder: Path) -> None:
    for log in folder.glob("*.log"):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/run", description="Run the control plane on this computer: web, worker, clock, PostgreSQL and Redis."
    )
    parser.add_argument(
        "--port", type=port_number, default=8000, help="where the pages are, on 127.0.0.1 (default: 8000)"
    )
    parser.add_argument(
        "--data", type=Path, default=CHECKOUT / "var", help="the data folder (default: var in this checkout)"
    )
    parser.add_argument("--workers", type=int, default=4, help="how many operations may run at once (default: 4)")
    containers = parser.add_mutually_exclusive_group()
    for wish, words in (
        (Wish.ALWAYS, "do not start unless the demo's staging can run in containers (usual: where Podman runs them)"),
        (Wish.NEVER, "run the demo's staging as local processes, like its other environments"),
    ):
        containers.add_argument(wish, dest="wish", action="store_const", const=wish, help=words)
    parser.set_defaults(wish=Wish.IF_POSSIBLE)
    return parser.parse_args(arguments)


def port_number(text: str) -> int:
    """A port as somebody typed it. Raises ArgumentTypeError, in words."""
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port: give a number from 1 to 65535")
    return int(text)


def why_not_free(port: int) -> str:
    """Why nobody can listen on the port, in words; empty when somebody can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return f"You may not listen on port {port}: ports below 1024 are for the administrator."
        except OSError:
            return f"Port {port} is in use by another program."
    return ""


def run(port: int, data: Path, workers: int, wish: Wish) -> None:
    data = open_data_folder(data)
    with ExitStack() as cleanup:
        cleanup.enter_context(hold(data, f"bin/run on http://127.0.0.1:{port}"))
        end_leftovers(data)
        if reason := why_not_free(port):
            raise StackError(f"{reason} Choose another: bin/run --port {port + 1 if 1024 <= port < 65_535 else 8001}")
        rotate_logs(data / "logs")
        choice: Future[Choice] = cleanup.enter_context(ThreadPoolExecutor(1)).submit(look, data, wish)
        supervisor = Supervisor(Stack(data, demo=True), port, programs(port, workers))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, supervisor.on_signal)
        cleanup.callback(say, "run", "everything has stopped")
        cleanup.enter_context(supervisor.stack)
        cleanup.callback(supervisor.shut_down)
        supervisor.prepare(wish, choice.result())
        supervisor.watch()


def main(arguments: list[str] | None = None) -> int:
    """0 after an ordered stop, 1 with a reason in words."""
    options = parse(arguments)
    try:
        run(options.port, options.data, options.workers, options.wish)
    except StackError as error:
        print(f"bin/run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
