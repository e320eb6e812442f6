"""An HTTP layer in front of moto's server: it counts, plays time, and misbehaves as real networks do.

`Layer.cloud` is the world behind it (see `cloud`); `Layer.will` lines up what goes wrong with single calls.
"""

import http.client
import json
import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlencode

from moto.server import ThreadedMotoServer

from tests.aws.cloud import Cloud
from tests.aws.ecs import Ecs, Json
from tests.aws.requests import Request, read

CHANGES = (
    "RegisterTaskDefinition", "UpdateService",
    "RestoreDBInstanceFromDBSnapshot", "RestoreDBInstanceToPointInTime", "CreateDBInstanceReadReplica",
    "CopyDBSnapshot", "CreateDBSnapshot", "PromoteReadReplica", "ModifyDBInstance", "RebootDBInstance",
    "StopDBInstance", "DeleteDBInstance", "DeleteDBSnapshot",
    "ChangeResourceRecordSets", "SetAlarmState", "PutObject", "DeleteObject",
    "RegisterTargets", "DeregisterTargets", "ModifyListener", "ModifyRule",
    "RegisterInstancesWithLoadBalancer", "DeregisterInstancesFromLoadBalancer",
)  # fmt: skip
# On a busy machine moto takes its time; an answer that is lost by us is a call that boto3 makes twice.
PATIENCE_SECONDS = 60.0
CONNECTION = ("content-length", "connection", "transfer-encoding", "date", "server", "keep-alive")


@dataclass(frozen=True)
class Fault:
    """What happens to one request. taken: AWS carries it out all the same.

    status: answer with it and `body`, or with AWS's `code` and `message` in the language of the service; 0: give no
    answer. holds: keep the caller waiting until it hangs up.
    """

    taken: bool = False
    status: int = 0
    body: bytes = b""
    holds: bool = False
    code: str = ""
    message: str = ""


def refused(code: str, message: str, status: int = 400) -> Fault:
    """AWS says no."""
    return Fault(status=status, code=code, message=message)


def throttled() -> Fault:
    """Too many requests."""
    return refused("ThrottlingException", "Rate exceeded")


def denied(action: str, resource: str = "*") -> Fault:
    """IAM says no."""
    who = "arn:aws:iam::123456789012:user/control-plane"
    return refused(
        "AccessDeniedException", f"User: {who} is not authorized to perform: {action} on resource: {resource}"
    )


def broken() -> Fault:
    """A server error, from something in front that does not speak AWS's language."""
    return Fault(status=503, body=b"<html>Service Unavailable</html>")


LOST_AFTER = Fault(taken=True)  # carried out, but the connection was lost before the answer
LOST_BEFORE = Fault()
SLOW = Fault(taken=True, holds=True)


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Layer:
    """The layer's state. taken: how often AWS carried out each action. bodies: what was sent with each change.

    on_taken: called with the action right after AWS carried out a change, before anybody hears of it.
    """

    moto: tuple[str, int]
    cloud: Cloud = field(default_factory=Cloud)
    url: str = ""
    taken: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    bodies: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    on_taken: Callable[[str], None] = lambda action: None
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def ecs(self) -> Ecs:
        """That of us-east-1; `cloud.ecs` has the others."""
        return self.cloud.ecs("us-east-1")

    def will(self, action: str, *faults: Fault, region: str = "") -> None:
        """The next requests for the action (in the region, if one is given) meet these faults, one each."""
        self.faults[f"{region}/{action}"].extend(faults)

    def fault_for(self, request: Request) -> Fault | None:
        """The next one that was lined up for such a request."""
        for region in (request.region, ""):
            waiting = self.faults[f"{region}/{request.action}"]
            if waiting:
                return waiting.popleft()
        return None

    @property
    def changes(self) -> dict[str, int]:
        """How often something was changed."""
        return {action: self.taken[action] for action in CHANGES if self.taken[action]}

    def reset(self) -> None:
        """Forget everything, moto's world included."""
        self.cloud.reset()
        for kept in (self.taken, self.asked, self.bodies, self.faults):
            kept.clear()
        self.on_taken = lambda action: None
        self.forward("POST", "/moto-api/reset", {}, b"")

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Ask moto."""
        connection = http.client.HTTPConnection(*self.moto, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body, headers)
            with connection.getresponse() as response:
                left_out = CONNECTION[1:] if method == "HEAD" else CONNECTION
                kept = {name: value for name, value in response.getheaders() if name.lower() not in left_out}
                return Answer(response.status, response.read(), kept)
        finally:
            connection.close()

    def serve(self, request: Request) -> Answer:
        """Carry out one action: moto's part, then ours."""
        with self.lock:
            self.cloud.known_regions.add(request.region)
            self.cloud.settle()
            if request.service == "rds" and (no := self.cloud.rds.refusal(request)):
                return refusal(request, Fault(status=400, code=no[0], message=no[1]))
            ecs = self.cloud.ecs(request.region) if request.service == "ecs" else None
            own = ecs.own_answer(request.action, request.values) if ecs else self.cloud.own_answer(request)
            if own is not None:
                return Answer(200, own.encode() if isinstance(own, str) else json.dumps(own).encode())
            answer = self._carry_out(request)
            if answer.status >= 300:
                return answer
            if ecs:
                answer = self._play_ecs(ecs, request, answer)
            elif request.service == "rds":
                self.cloud.rds.after(request)
            elif request.service == "elasticloadbalancing":
                self.cloud.balancing.after(request)
            else:
                answer = Answer(answer.status, self.cloud.names.after(request, answer.content), answer.headers)
            self.taken[request.action] += 1
            if request.action in CHANGES:
                self.bodies[request.action].append(request.values)
                self.on_taken(request.action)
            return answer

    def _carry_out(self, request: Request) -> Answer:
        if request.action == "DeleteDBInstance":
            keep = self.cloud.rds.before_deletion(request)
            answer = self.forward(request.method, request.path, request.headers, request.body)
            keep()
            return answer
        if "SourceDBInstanceAutomatedBackupsArn" in request.values:
            other = "RestoreDBInstanceFromDBSnapshot"
            values = {key: value for key, value in request.values.items() if not key.startswith("Source")}
            snapshot = self.cloud.rds.from_backups(request)
            values |= {"Action": other, "DBSnapshotIdentifier": snapshot}
            values["DBInstanceIdentifier"] = values.pop("TargetDBInstanceIdentifier")
            answer = self.forward(request.method, request.path, request.headers, urlencode(values).encode())
            self.cloud.rds.forget(request.region, snapshot)
            return Answer(answer.status, answer.content.replace(other.encode(), request.action.encode()))
        return self.forward(request.method, request.path, request.headers, request.body)

    def _play_ecs(self, ecs: Ecs, request: Request, answer: Answer) -> Answer:
        def ask(action: str, body: Json) -> Json:
            target = request.headers["X-Amz-Target"].partition(".")[0] + f".{action}"
            headers = {**request.headers, "X-Amz-Target": target}
            found: Json = json.loads(self.forward("POST", "/", headers, json.dumps(body).encode()).content)
            return found

        played = ecs.answer(request.action, request.values, json.loads(answer.content), ask)
        return Answer(200, json.dumps(played).encode())


def refusal(request: Request, fault: Fault) -> Answer:
    """An error, in the language of the service."""
    if not fault.code:
        return Answer(fault.status, fault.body)
    if not request.is_xml:
        return Answer(fault.status, json.dumps({"__type": fault.code, "message": fault.message}).encode())
    error = f"<Error><Code>{fault.code}</Code><Message>{escape(fault.message)}</Message></Error>"
    document = error if request.service == "s3" else f"<ErrorResponse>{error}</ErrorResponse>"
    return Answer(fault.status, document.encode())


class _Handler(BaseHTTPRequestHandler):
    layer: ClassVar[Layer]
    protocol_version = "HTTP/1.1"
    timeout = 10
    NOT_PASSED_ON = ("host", "connection", "content-length", "expect", "transfer-encoding", "accept-encoding")

    def _serve(self) -> None:
        """Serve one request, or fail to."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in self.NOT_PASSED_ON}
        request = read(self.command, self.path, headers, body)
        self.layer.asked[request.action] += 1
        if how := self.layer.cloud.trouble(request.place):
            self._say_nothing(holds=how == "hangs")
            return
        fault = self.layer.fault_for(request)
        answer = Answer(0, b"")
        if fault is None or fault.taken:
            answer = self.layer.serve(request)
        if self.layer.cloud.trouble(request.place):  # cut meanwhile: nobody hears of it
            self._say_nothing(holds=False)
        elif fault is None:
            self._answer(request, answer)
        elif fault.status:
            self._answer(request, refusal(request, fault))
        else:
            self._say_nothing(holds=fault.holds)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815 - what http.server calls

    def _say_nothing(self, *, holds: bool) -> None:
        self.close_connection = True
        if holds:
            with suppress(OSError):
                self.connection.recv(1)  # until the caller hangs up

    def _answer(self, request: Request, answer: Answer) -> None:
        kind = "text/xml" if request.is_xml else "application/x-amz-json-1.1"
        headers = {"Content-Type": kind, **answer.headers}
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(answer.content))
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The time as the cloud has it."""
        return super().date_time_string(self.layer.cloud.clock.seconds())

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


class _Listener:
    """One port of the layer. It can be closed, and opened again at the same place."""

    def __init__(self, layer: Layer) -> None:
        self._handler = type("Handler", (_Handler,), {"layer": layer})
        self.port = 0
        self._http: ThreadingHTTPServer | None = None
        self.open()

    def open(self) -> None:
        """Listen, if it does not."""
        if self._http is None:
            self._http = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
            self.port = self._http.server_address[1]
            self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Whoever connects is refused."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._thread.join()
            self._http = None


class Server:
    """Moto and the layer, each on a free loopback port; a region gets one of its own when it is asked for."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        self.layer = Layer(self._moto.get_host_and_port())
        self._all = _Listener(self.layer)
        self._regions: dict[str, _Listener] = {}
        self.layer.url = f"http://127.0.0.1:{self._all.port}"
        self.layer.cloud.open_endpoint = self._endpoint
        self.layer.cloud.on_cut(self._cut)

    def _endpoint(self, region: str) -> str:
        if region not in self._regions:
            self._regions[region] = _Listener(self.layer)
        listener = self._regions[region]
        if self.layer.cloud.trouble(region) != "refuses":
            listener.open()
        return f"http://127.0.0.1:{listener.port}"

    def _cut(self, region: str, refuses: bool) -> None:
        if region in self._regions:
            (self._regions[region].close if refuses else self._regions[region].open)()

    def close(self) -> None:
        """Stop all of it."""
        for listener in (self._all, *self._regions.values()):
            listener.close()
        self._moto.stop()
