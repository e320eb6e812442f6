"""Numbers of canaries: what came between two looks, from a load balancer or from a Prometheus server."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from controlplane.operations.errors import StepError
from deployments.strategies.judge import Side
from deployments.strategies.sources import Counter, from_kept, kept, reader, since

ROWS = [{"name": f"api-{number}", "host": "10.0.0.1", "port": 8000 + number} for number in (1, 2, 3)]
Answers = dict[str, dict[str, float]]


@pytest.fixture
def prometheus(settings: Any) -> Iterator[Callable[[Answers], list[str]]]:
    """A server that answers by the name of the counter; what it was asked is in the list."""
    with ExitStack() as servers:

        def serve(answers: Answers, status: int = 200) -> list[str]:
            asked: list[str] = []

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    question = parse_qs(urlsplit(self.path).query)["query"][0]
                    asked.append(question)
                    rows = [{"metric": {"instance": key, "counter": name}, "value": [1.0, str(value)]}
                            for name, values in answers.items() for key, value in values.items()]  # fmt: skip
                    body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": rows}}).encode()
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_: Any) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            servers.callback(server.server_close)
            servers.callback(server.shutdown)
            Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
            settings.PROMETHEUS_URL = f"http://127.0.0.1:{server.server_port}"
            return asked

        yield serve


class TestPrometheus:
    def test_instances_are_known_by_host_and_port_or_by_name(self, prometheus: Callable[[Answers], list[str]]) -> None:
        asked = prometheus(
            {
                "requests": {"10.0.0.1:8001": 500, "api-2": 900, "somebody": 7},
                "errors": {"api-2": 9},
                "seconds": {"10.0.0.1:8001": 12.5, "api-2": 18},
                "timed": {"10.0.0.1:8001": 500, "api-2": 900},
            }
        )
        found = reader("prometheus", {}, ROWS, "production")()
        assert found == {
            "api-1": Counter(500, 0, None, 12.5, 500, at_once=True),
            "api-2": Counter(900, 9, None, 18, 900, at_once=True),
        }
        assert len(asked) == 1, "or a scrape might come between two answers"
        both = (
            'label_replace(sum by (instance) (http_requests_total{environment="production"}), "counter", '
            '"requests", "", "")'
            ' or label_replace(sum by (instance) (http_requests_total{environment="production",status=~"5.."}), '
        )
        assert asked[0].startswith(both)

    def test_no_series_is_said_in_words(self, prometheus: Callable[[Answers], list[str]]) -> None:
        prometheus({})
        with pytest.raises(StepError, match="Prometheus has no http_requests_total of these instances") as said:
            reader("prometheus", {}, ROWS, "production")()
        assert not said.value.permanent

    def test_a_server_that_is_away_is_no_reason_to_give_up(self, settings: Any) -> None:
        settings.PROMETHEUS_URL = "http://127.0.0.1:1"
        with pytest.raises(StepError, match="Prometheus: connection refused") as said:
            reader("prometheus", {}, ROWS, "production")()
        assert not said.value.permanent

    def test_one_that_is_not_there_any_more_is(self, settings: Any) -> None:
        settings.PROMETHEUS_URL = ""
        with pytest.raises(StepError, match="PROMETHEUS_URL is not set any more") as said:
            reader("prometheus", {}, ROWS, "production")()
        assert said.value.permanent


class TestBetweenTwoLooks:
    def test_what_came(self) -> None:
        before = {"a": Counter(100, 1, None, 2.0, 100), "b": Counter(900, 9, None, 9.0, 900)}
        now = {"a": Counter(150, 2, None, 4.0, 150), "b": Counter(1000, 9, None, 10.0, 1000)}
        found = since(before, now, ["a"], ["b"])
        assert (found.canary, found.baseline, found.fresh) == (Side(50, 1, 40.0), Side(100, 0, 10.0), 1.0)

    def test_after_a_restart_what_there_is_came(self) -> None:
        found = since({"a": Counter(100, 1)}, {"a": Counter(30, 2)}, ["a"], ["b"])
        assert found.canary == Side(30, 2)

    def test_a_restart_is_seen_though_its_requests_have_caught_up(self) -> None:
        """Or its failures would be counted, and its other requests not: 100 % of 10 failed."""
        before = Counter(100, 0, None, 2.0, 100, at_once=True)
        now = Counter(100, 10, None, 2.0, 100, at_once=True)
        assert since({"a": before}, {"a": now}, ["a"], ["b"]).canary == Side(100, 10, 20.0)
        fewer_failures = Counter(150, 1, None, 9.0, 150, at_once=True)
        assert since({"a": now}, {"a": fewer_failures}, ["a"], ["b"]).canary == Side(150, 1, 60.0)

    def test_who_was_never_counted_begins_now(self) -> None:
        assert since({}, {"a": Counter(100, 1), "b": Counter(5, 5)}, ["a"], ["b"]).canary == Side(0, 0)

    def test_a_failure_that_is_counted_before_its_request_is_one(self) -> None:
        assert since({"a": Counter(10, 0)}, {"a": Counter(10, 1)}, ["a"], ["b"]).canary == Side(1, 1)

    def test_failures_that_are_told_minutes_before_their_requests_are_no_restart(self) -> None:
        """As CloudWatch may: or all that came since the month began would count anew."""
        before, now = Counter(9000, 10, None, 90.0, 9000), Counter(9000, 30, None, 90.0, 9000)
        later = Counter(9400, 30, None, 98.0, 9400)
        assert since({"a": before}, {"a": now}, ["a"], ["b"]).canary == Side(20, 20)
        assert since({"a": now}, {"a": later}, ["a"], ["b"]).canary == Side(400, 0, 20.0)

    def test_a_mean_over_lately_is_as_fresh_as_its_requests_are_many(self) -> None:
        def fresh(requests: int) -> float:
            before = {name: Counter(0, 0, 10.0) for name in "ab"}
            now = {name: Counter(requests, 0, 10.0) for name in "ab"}
            return since(before, now, ["a"], ["b"]).fresh

        assert fresh(0) == 0
        assert 0.1 < fresh(100) < 0.3
        assert fresh(5000) > 0.99

    def test_it_is_kept_as_json(self) -> None:
        counters = {"a": Counter(1, 2, 3.0, 4.0, 5), "b": Counter(1, 2)}
        assert from_kept(json.loads(json.dumps(kept(counters)))) == counters
