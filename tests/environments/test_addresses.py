"""A configured URL never leads to the cloud's metadata services, however it is written or resolved."""

import http.server
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from environments.addresses import Answer, NoAnswer, get, problem_with, send

METADATA = [
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",  # the same, as one number
    "http://0xa9fea9fe/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fd00:ec2::23]/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://[fd20:ce::254]/",
    "http://[::169.254.169.254]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[::ffff:0:a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:4136:e378:8000:63bf:5601:5601]/",  # Teredo, whose last part is inverted
]


class Redirecting(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/elsewhere" else 200)
        self.send_header("Location", "http://169.254.169.254/")
        self.end_headers()
        self.wfile.write(b'{"version": "1.4.0"}')

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("url", METADATA)
def test_a_metadata_address_is_refused_when_configured_and_when_asked(url: str) -> None:
    assert problem_with(url) == "points to a link-local or metadata address"
    with pytest.raises(NoAnswer, match="metadata"):
        get(url)


@pytest.mark.parametrize("answers", [["169.254.169.254"], ["127.0.0.1", "169.254.169.254"]])
def test_a_name_that_resolves_to_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, server: str, answers: list[str]
) -> None:
    real = socket.getaddrinfo

    def resolver(host: str, *arguments: Any, **rest: Any) -> list[Any]:
        if host != "metadata.example.com" or rest.get("flags", 0) & socket.AI_NUMERICHOST:
            return list(real(host, *arguments, **rest))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in answers]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert problem_with("http://metadata.example.com/") == ""
    with pytest.raises(NoAnswer, match="resolves to a link-local or metadata address"):
        get("http://metadata.example.com/")


def test_whoever_runs_the_installation_may_allow_them(settings: Any) -> None:
    settings.PROBE_ALLOWED_METADATA = True
    assert problem_with(METADATA[0]) == ""


def test_a_redirect_is_an_answer_and_not_followed(server: str) -> None:
    assert get(f"{server}/elsewhere").status == 302


def test_an_answer_has_its_status_body_and_latency(server: str) -> None:
    answer = get(f"{server}/version?x=1")
    assert (answer.status, answer.json()) == (200, {"version": "1.4.0"})
    assert 0 < answer.latency_ms < 3000


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "has to begin with http:// or https:// and name a host"),
        ("api.pitchey.com", "has to begin with http:// or https:// and name a host"),
        ("https://", "has to begin with http:// or https:// and name a host"),
        ("https://me:secret@example.com/", "must not carry a user name or a password"),
        ("http://example.com:99999/", "is not a URL: Port out of range 0-65535"),
        ("https://api.pitchey.com/health", ""),
        ("http://127.0.0.1:4101", ""),
    ],
)
def test_what_is_wrong_with_a_url_is_said_in_words(url: str, words: str) -> None:
    assert problem_with(url) == words


def test_nobody_there_is_said_in_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswer, match=r"^connection refused$"):
            get(f"http://127.0.0.1:{taken.getsockname()[1]}/health")


def test_somebody_who_is_silent_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(NoAnswer, match=r"^no answer within 0\.1 s$"):
            get(f"http://127.0.0.1:{silent.getsockname()[1]}/health", timeout=0.1)


@pytest.mark.parametrize("drip", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"x"])
def test_somebody_who_never_comes_to_an_end_is_given_up(drip: bytes) -> None:
    """A byte now and then keeps every single read within its time."""
    over = threading.Event()

    def dripping(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            if drip == b"x":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not over.wait(0.02):
                connection.sendall(drip)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=dripping, args=[server])
        thread.start()
        try:
            with pytest.raises(NoAnswer, match=r"^no answer within 0\.3 s$"):
                get(f"http://127.0.0.1:{server.getsockname()[1]}/health", timeout=0.3)
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("value", ["Bearer s3ntinel\n", "Bearer s3ntinel…", "Bearer s3ntinel\r\nHost: b"])
def test_what_cannot_be_sent_is_not_repeated(server: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NoAnswer, match="has characters that HTTP does not know") as told:
        send("GET", server, headers={"Authorization": value})
    logging.getLogger("tests").error("it failed", exc_info=told.value)
    assert "s3ntinel" not in str(told.value) + caplog.text and "…" not in str(told.value)


@pytest.mark.parametrize("answer", [b"not with Bearer s3ntinel", b"HTTP/s3ntinel 200 OK"])
def test_an_answer_that_is_no_http_is_not_repeated(answer: bytes) -> None:
    """It may quote what it was sent."""

    def answering(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer + b"\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answering, args=[server])
        thread.start()
        with pytest.raises(NoAnswer, match=r"^the answer is no HTTP$"):
            get(f"http://127.0.0.1:{server.getsockname()[1]}/health")
        thread.join()


def test_an_address_that_cannot_be_sent_is_not_repeated(server: str) -> None:
    with pytest.raises(NoAnswer, match="has characters that HTTP does not know") as told:
        get(f"{server}/hooks/s3ntinel \x7f")
    assert "s3ntinel" not in str(told.value)


def test_a_body_that_nests_too_deep_is_no_object() -> None:
    assert Answer(200, b"[" * 60_000, 1.0).json() == {}
