"""Metrics from a Prometheus server: what it answers, and each way in which it may fail to, which is missing data."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from incidents.models import RuleState
from incidents.rules import prometheus, sources
from incidents.rules.evaluation import Reading
from incidents.rules.metrics import METRICS
from tests.estate import Estate
from tests.incidents.rules_world import look, make_rule

Serve = Callable[..., str]
ASKED: list[str] = []
TOKENS: list[str | None] = []


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers every question with the same; gives its address. What it was asked is in ASKED."""
    with ExitStack() as servers:

        def serve(body: Any, status: int = 200) -> str:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    ASKED.append(self.path)
                    TOKENS.append(self.headers.get("Authorization"))
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(content)

                def log_message(self, *_: Any) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            servers.callback(server.server_close)
            servers.callback(server.shutdown)
            Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
            return f"http://127.0.0.1:{server.server_address[1]}"

        ASKED.clear()
        TOKENS.clear()
        yield serve


def vector(**values: str) -> dict[str, Any]:
    """As Prometheus answers. values: by environment."""
    result = [{"metric": {"environment": slug}, "value": [1764331200.5, value]} for slug, value in values.items()]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def read(base: str, *environments: str) -> list[Reading]:
    names = environments or ("production",)
    found = prometheus.read(base, ["error_rate"], names)
    return [found[name, "error_rate"] for name in names]


def test_one_question_for_all_environments(serve: Serve) -> None:
    base = serve(vector(production="0.25", staging="0"))
    assert read(f"{base}/", "production", "staging", "dr") == [Reading(0.25), Reading(0.0), prometheus.NO_SERIES]
    assert len(ASKED) == 1
    parts = urlsplit(ASKED[0])
    assert parts.path == "/api/v1/query"
    assert parse_qs(parts.query)["query"] == [METRICS["error_rate"].query()]


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_no_number_is_missing(serve: Serve, value: str) -> None:
    assert read(serve(vector(production=value))) == [prometheus.NO_NUMBER]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"status": "error", "error": "parse error: unexpected <"}, 400, "Prometheus answered 400: parse error"),
        ({"status": "success", "data": {"result": []}}, 200, "Prometheus has no data of it"),
        ({"status": "success"}, 200, "something else than a list of series"),
        ({"status": "success", "data": {"result": [{"metric": {}, "value": []}]}}, 200, "something else"),
        ({"status": "success", "data": {"result": [7]}}, 200, "something else"),
        ({"status": "success", "data": {"result": [{"metric": 3, "value": [0, "1"]}]}}, 200, "something else"),
        (b"<html>Bad gateway</html>", 502, "Prometheus answered 502"),
        (b"[]", 200, "Prometheus answered 200"),
        (b"", 503, "Prometheus answered 503"),
        ({"status": "success", "data": {"result": [{}] * 20_000}}, 200, "Prometheus answered 200"),
    ],
)
def test_answers_that_say_nothing(serve: Serve, body: Any, status: int, words: str) -> None:
    [reading] = read(serve(body, status))
    assert reading.value is None and words in reading.words


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("http://127.0.0.1:1", "Prometheus: connection refused"),
        ("http://169.254.169.254", "Prometheus: the address points to a link-local or metadata address"),
        ("ftp://127.0.0.1", "has to begin with http://"),
        ("nonsense", "has to begin with http://"),
    ],
)
def test_who_cannot_be_asked(base: str, words: str) -> None:
    [reading] = read(base)
    assert reading.value is None and words in reading.words


class TestToken:
    """A server that wants to know who asks."""

    def test_it_goes_with_the_question(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("METRICS_TOKEN", "s3cret-of-metrics\n")
        base = serve(vector(production="0.25"))
        found = prometheus.read(base, ["error_rate"], ["production"], "env:METRICS_TOKEN")
        assert found["production", "error_rate"] == Reading(0.25)
        assert TOKENS == ["Bearer s3cret-of-metrics"]

    def test_without_one_none_goes(self, serve: Serve) -> None:
        read(serve(vector(production="0.25")))
        assert TOKENS == [None]

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (None, "METRICS_TOKEN"),
            ("two\nlines of it", "not in visible ASCII"),
            ("žluťoučký", "not in visible ASCII"),
        ],
    )
    def test_one_that_cannot_be_sent_is_missing_data_and_stays_secret(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, value: str | None, words: str
    ) -> None:
        if value is None:
            monkeypatch.delenv("METRICS_TOKEN", raising=False)
        else:
            monkeypatch.setenv("METRICS_TOKEN", value)
        found = prometheus.read(serve(vector(production="1")), ["error_rate"], ["production"], "env:METRICS_TOKEN")
        reading = found["production", "error_rate"]
        assert reading.value is None and words in reading.words
        assert value is None or value not in reading.words
        assert ASKED == []

    def test_one_that_is_quoted_is_not_shown(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("METRICS_TOKEN", "s3cret-of-metrics")
        base = serve({"status": "error", "error": "not with Bearer s3cret-of-metrics"}, 500)
        [reading] = prometheus.read(base, ["error_rate"], ["production"], "env:METRICS_TOKEN").values()
        assert "Prometheus answered 500: not with Bearer •" in reading.words and "s3cret" not in reading.words

    @pytest.mark.parametrize("status", [401, 403])
    def test_one_that_is_refused_is_said(self, serve: Serve, status: int) -> None:
        [reading] = read(serve(b"Unauthorized", status))
        assert reading.words == f"Prometheus answered {status}: it wants another token (PROMETHEUS_TOKEN)"


@pytest.mark.django_db
class TestRules:
    def test_the_setting_names_the_token(
        self, estate: Estate, serve: Serve, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("METRICS_TOKEN", "s3cret-of-metrics")
        settings.PROMETHEUS_URL, settings.PROMETHEUS_TOKEN = serve(vector(production="0.25")), "env:METRICS_TOKEN"
        make_rule(for_seconds=0)
        assert look().value == 0.25
        assert set(TOKENS) == {"Bearer s3cret-of-metrics"}

    def test_they_are_evaluated_by_the_server_where_one_is_named(
        self, estate: Estate, serve: Serve, settings: Any
    ) -> None:
        settings.PROMETHEUS_URL = serve(vector(production="0.25"))
        make_rule(for_seconds=0)
        row = look()
        assert (row.state, row.value) == (RuleState.State.FIRING, 0.25)
        assert sources.source_name() == "the Prometheus server"

    def test_without_an_answer_they_have_no_data(self, estate: Estate, settings: Any) -> None:
        settings.PROMETHEUS_URL = "http://127.0.0.1:1"
        make_rule(for_seconds=0)
        row = look()
        assert (row.state, row.words) == (
            RuleState.State.MISSING, "error_rate: Prometheus: connection refused",
        )  # fmt: skip
