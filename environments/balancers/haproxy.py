"""HAProxy by its runtime API: one socket, a line for a command, an answer that ends in an empty line.

https://docs.haproxy.org/2.6/management.html#9.3. Changes are lost when HAProxy restarts: what it starts with is its
configuration file's to say. A member is taken out by `drain`, not by `maint`: its health is asked for all the while, so
that it gets requests again only once it is well.
"""

import csv
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from controlplane.operations.errors import StepError
from environments.addresses import NoAnswer, connect
from environments.balancers.base import Counted, Member, Seen, Standing

TIMEOUT_SECONDS = 5.0
LARGEST_ANSWER = 4 * 2**20  # bytes
# Of `show servers state`: forced, inherited and configured maintenance or drain.
OUT_OF_IT = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20 | 0x40
NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-")


class HaproxyBalancer:
    """See `base.Balancer`. A member is the server of the backend that has its name.

    settings: `socket`, a path or tcp://host:port; `backend`, its name.
    """

    kind = "haproxy"

    def problems(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with the settings, in words, by key."""
        unknown = settings.keys() - {"kind", "socket", "backend"}
        wrong = dict.fromkeys(unknown, "is no setting of haproxy; there are backend, socket")
        where = settings.get("socket")
        if not isinstance(where, str) or not (where.startswith("/") or _host_and_port(where)):
            wrong["socket"] = "has to be the path of HAProxy's socket, or tcp://host:port"
        if not _is_name(settings.get("backend")):
            wrong["backend"] = "has to be the name of a backend"
        return wrong

    def look(self, settings: Mapping[str, Any], member: Member) -> Seen:
        """By its statistics and its administrative state."""
        row = _rows(settings).get(member.name)
        if row is None:
            return Seen(Standing.ABSENT, f"{settings['backend']} has no server {member.name}")
        status, open_now = row["status"], _number(row["scur"]) + _number(row["qcur"])
        state = _states(settings).get(member.name)
        if state is None:
            return Seen(Standing.ABSENT, f"{settings['backend']} has just lost its server {member.name}")
        weight = _number(state["srv_uweight"])  # as it was set; the statistics say less while it starts slowly
        if int(state["srv_admin_state"]) & OUT_OF_IT:
            standing = Standing.DRAINING if open_now else Standing.ABSENT
        elif (state["srv_addr"], state["srv_port"]) != (member.host, str(member.port)) and _is_address(member.host):
            words = f"it stands for {state['srv_addr']}:{state['srv_port']}"
            return Seen(Standing.ELSEWHERE, words, open_now, weight)
        elif status.startswith("DOWN"):
            # "DOWN 1/2": the first good answers have come.
            standing = Standing.STARTING if "/" in status else Standing.UNHEALTHY
        else:
            standing = Standing.SERVING
        return Seen(standing, _words(row), open_now, weight)

    def remove(self, settings: Mapping[str, Any], member: Member) -> None:
        """Drain it: no new requests but those of sessions that are bound to it."""
        if member.name in _states(settings):
            _told(settings, f"set server {_server(settings, member)} state drain")

    def add(self, settings: Mapping[str, Any], member: Member) -> None:
        """Give it requests as soon as its health is good. Raises StepError where the backend has no such server."""
        state = _states(settings).get(member.name)
        if state is None:
            words = f"The backend {settings['backend']} has no server {member.name}. Add it to HAProxy's configuration."
            raise StepError(words, permanent=True)
        server = _server(settings, member)
        if _is_address(member.host) and (state["srv_addr"], state["srv_port"]) != (member.host, str(member.port)):
            _told(settings, f"set server {server} addr {member.host} port {member.port}")
        _told(settings, f"set server {server} state ready")

    def weigh(self, settings: Mapping[str, Any], weights: Mapping[Member, int]) -> None:
        """HAProxy's own weights, which count beside each other. Who gets requests first, then who gets none."""
        for member, weight in sorted(weights.items(), key=lambda one: (not one[1], one[0].name)):
            _told(settings, f"set server {_server(settings, member)} weight {int(weight)}")

    def counted(self, settings: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Counted]:
        """Since HAProxy was started."""
        rows = _rows(settings)
        return {member.name: _count(rows[member.name]) for member in members if member.name in rows}


# --- what it says -------------------------------------------------------------------------------------


def _count(row: Mapping[str, str]) -> Counted:
    """Each server's answers by class; whom it sent nowhere it counts as errors of the connection or of the answer."""
    answered = sum(_number(row[f"hrsp_{kind}"]) for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
    unanswered = _number(row["econ"]) + _number(row["eresp"])
    mean = float(row["rtime"]) if row.get("rtime") else None
    return Counted(answered + unanswered, _number(row["hrsp_5xx"]) + unanswered, mean)


def _rows(settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The statistics of each server of the backend."""
    text = _told(settings, "show stat").removeprefix("# ")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["pxname"] == settings["backend"]]
    if not rows:
        raise StepError(f"HAProxy has no backend {settings['backend']}.", permanent=True)
    return {row["svname"]: row for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")}


def _states(settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The administrative state of each server of the backend."""
    _version, heading, *lines = _told(settings, f"show servers state {settings['backend']}").splitlines()
    names = heading.removeprefix("# ").split()
    rows = [dict(zip(names, line.split(), strict=False)) for line in lines]
    return {row["srv_name"]: row for row in rows}


def _words(row: Mapping[str, str]) -> str:
    check = " ".join(filter(None, (row.get("check_status"), row.get("last_chk"))))
    return f"{row['status']} ({check})" if check else row["status"]


def _number(text: str | None) -> int:
    return int(text) if text else 0


# --- the socket ---------------------------------------------------------------------------------------


def _told(settings: Mapping[str, Any], command: str) -> str:
    """The answer to a command. Raises StepError."""
    where = settings["socket"]
    try:
        with closing(_connected(where)) as wire:
            wire.settimeout(TIMEOUT_SECONDS)
            wire.sendall(f"{command}\n".encode())
            parts: list[bytes] = []
            while (part := wire.recv(65_536)) and sum(map(len, parts)) < LARGEST_ANSWER:
                parts.append(part)
    except (OSError, NoAnswer) as error:
        raise StepError(f"HAProxy does not answer at {where}: {error}") from error
    whole = b"".join(parts).decode(errors="replace")
    # One that is killed or reloaded breaks off, also between two rows: who is missing then is not absent.
    if not whole.endswith("\n\n" if command.startswith("show ") else "\n"):
        raise StepError(f"HAProxy broke off its answer to “{command}” at {where}.")
    answer = whole.strip()
    if command.startswith("set ") and answer and not _is_fine(answer):
        raise StepError(f"HAProxy refuses “{command}”: {answer.splitlines()[0]}", permanent=True)
    if command.startswith("show ") and ("permission denied" in answer.lower() or "Can't find backend" in answer):
        raise StepError(f"HAProxy refuses “{command}”: {answer.splitlines()[0]}", permanent=True)
    return answer


def _is_fine(answer: str) -> bool:
    """What it says of an address that it took: "IP changed from …", "no need to change the addr"."""
    return "changed from" in answer or "no need to change" in answer or "nothing changed" in answer


def _connected(where: str) -> socket.socket:
    if address := _host_and_port(where):
        return connect(*address, TIMEOUT_SECONDS)
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    wire.settimeout(TIMEOUT_SECONDS)
    try:
        wire.connect(where)
    except OSError:
        wire.close()
        raise
    return wire


def _host_and_port(where: str) -> tuple[str, int] | None:
    host, _, port = where.removeprefix("tcp://").rpartition(":")
    if not where.startswith("tcp://") or not host or not port.isdigit():
        return None
    return host, int(port)


def _server(settings: Mapping[str, Any], member: Member) -> str:
    """As commands name it. Raises StepError for a name that would be read as something else."""
    if not _is_name(member.name):
        raise StepError(f"HAProxy cannot have a server with the name {member.name}.", permanent=True)
    return f"{settings['backend']}/{member.name}"


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100 and set(value) <= NAME_LETTERS


def _is_address(host: str) -> bool:
    """Whether it is a numeric address, as HAProxy shows them."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True
