"""HAProxy, a real one: who is drained gets nothing new and may end, weights share, its counters tell the truth."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from controlplane.operations.errors import StepError
from environments.balancers import BALANCERS
from environments.balancers.base import Member, Standing
from tests.environments.balancers.proxies import Proxy, proxy, proxying, until

__all__ = ["proxy"]
HAPROXY = BALANCERS["haproxy"]


def standing(proxy: Proxy, name: str) -> Standing:
    return HAPROXY.look(proxy.settings, proxy.servers[name].member).standing


def test_who_is_taken_out_gets_nothing_new(proxy: Proxy) -> None:
    one = proxy.servers["one"].member
    HAPROXY.remove(proxy.settings, one)
    assert standing(proxy, "one") == Standing.ABSENT
    assert {proxy.get() for _ in range(10)} == {(200, "two")}
    HAPROXY.remove(proxy.settings, one)  # twice is once
    HAPROXY.add(proxy.settings, one)
    HAPROXY.add(proxy.settings, one)
    until(lambda: standing(proxy, "one") == Standing.SERVING)
    assert {proxy.get()[1] for _ in range(10)} == {"one", "two"}


def test_what_is_under_way_may_end(proxy: Proxy) -> None:
    heard: list[tuple[int, str]] = []
    HAPROXY.remove(proxy.settings, proxy.servers["two"].member)
    asking = threading.Thread(target=lambda: heard.append(proxy.get("/slow")))
    asking.start()
    assert proxy.servers["one"].began.wait(10)
    HAPROXY.add(proxy.settings, proxy.servers["two"].member)
    HAPROXY.remove(proxy.settings, proxy.servers["one"].member)
    seen = HAPROXY.look(proxy.settings, proxy.servers["one"].member)
    assert (seen.standing, seen.open) == (Standing.DRAINING, 1)
    proxy.servers["one"].go_on.set()
    asking.join(10)
    until(lambda: standing(proxy, "one") == Standing.ABSENT)
    assert heard == [(200, "one")]


def test_who_is_not_well_gets_nothing_though_it_was_added(proxy: Proxy) -> None:
    one = proxy.servers["one"]
    HAPROXY.remove(proxy.settings, one.member)
    one.status = 503
    until(lambda: "DOWN" in HAPROXY.look(proxy.settings, one.member).words)
    assert standing(proxy, "one") == Standing.ABSENT, "it is out, well or not"
    HAPROXY.add(proxy.settings, one.member)
    assert standing(proxy, "one") == Standing.UNHEALTHY
    assert {proxy.get() for _ in range(10)} == {(200, "two")}
    one.status = 200
    until(lambda: standing(proxy, "one") == Standing.SERVING)


def test_weights_share_the_requests(proxy: Proxy) -> None:
    one, two = (proxy.servers[name].member for name in ("one", "two"))
    HAPROXY.weigh(proxy.settings, {one: 10, two: 90})
    assert [HAPROXY.look(proxy.settings, member).weight for member in (one, two)] == [10, 90]
    shares = Counter(proxy.get()[1] for _ in range(200))
    assert 10 <= shares["one"] <= 30, shares
    HAPROXY.weigh(proxy.settings, {one: 0, two: 100})
    assert {proxy.get()[1] for _ in range(20)} == {"two"}


def test_its_counters_tell_who_answered_and_who_failed(proxy: Proxy) -> None:
    one, two = (proxy.servers[name] for name in ("one", "two"))
    before = HAPROXY.counted(proxy.settings, [one.member, two.member])
    one.fails, one.status = True, 500
    HAPROXY.weigh(proxy.settings, {one.member: 50, two.member: 50})
    statuses = Counter(proxy.get() for _ in range(6))
    until(lambda: "DOWN" in HAPROXY.look(proxy.settings, one.member).words)
    after = HAPROXY.counted(proxy.settings, [one.member, two.member])
    failed = statuses[500, "one"]
    assert failed
    assert after["one"].errors - before["one"].errors == failed
    assert after["one"].requests - before["one"].requests == failed
    assert after["two"].requests - before["two"].requests == 6 - failed
    assert after["two"].errors == before["two"].errors


def test_nobody_there_counts_as_an_error_once(proxy: Proxy) -> None:
    one, two = (proxy.servers[name] for name in ("one", "two"))
    HAPROXY.remove(proxy.settings, two.member)
    before = HAPROXY.counted(proxy.settings, [one.member])["one"]
    one.shutdown()
    one.server_close()
    status, _ = proxy.get()
    after = HAPROXY.counted(proxy.settings, [one.member])["one"]
    assert status == 503
    assert (after.requests - before.requests, after.errors - before.errors) == (1, 1)


def test_it_is_spoken_to_by_tcp_as_well(proxy: Proxy) -> None:
    settings = {**proxy.settings, "socket": f"tcp://127.0.0.1:{proxy.admin}"}
    assert HAPROXY.look(settings, proxy.servers["one"].member).standing == Standing.SERVING


def test_a_member_that_is_out_keeps_its_weight(proxy: Proxy) -> None:
    member = proxy.servers["one"].member
    HAPROXY.weigh(proxy.settings, {member: 40})
    HAPROXY.remove(proxy.settings, member)
    assert HAPROXY.look(proxy.settings, member).weight == 40


def test_an_address_that_moved_is_told_to_it(proxy: Proxy) -> None:
    other = proxy.servers["two"].member
    moved = Member("one", other.host, other.port)
    assert HAPROXY.look(proxy.settings, moved).standing == Standing.ELSEWHERE, "the former one gets requests"
    HAPROXY.remove(proxy.settings, moved)
    assert HAPROXY.look(proxy.settings, moved).standing == Standing.ABSENT
    HAPROXY.add(proxy.settings, moved)
    until(lambda: HAPROXY.look(proxy.settings, moved).standing == Standing.SERVING)
    assert {proxy.get()[1] for _ in range(6)} == {"two"}


def test_what_it_does_not_know_is_said(proxy: Proxy) -> None:
    stranger = Member("three", "127.0.0.1", 1)
    assert HAPROXY.look(proxy.settings, stranger).standing == Standing.ABSENT
    HAPROXY.remove(proxy.settings, stranger)  # it gets nothing, and that is what was asked for
    with pytest.raises(StepError, match="no server three"):
        HAPROXY.add(proxy.settings, stranger)
    with pytest.raises(StepError, match="no backend nowhere"):
        HAPROXY.look({**proxy.settings, "backend": "nowhere"}, proxy.servers["one"].member)


def test_a_name_is_no_way_to_say_something_else(proxy: Proxy) -> None:
    with pytest.raises(StepError, match="cannot have a server"):
        HAPROXY.weigh(proxy.settings, {Member("one weight 1; disable server app/two", "127.0.0.1", 1): 5})


def test_one_that_is_away_is_a_passing_reason(proxy: Proxy) -> None:
    proxy.process.kill()
    proxy.process.wait()
    with pytest.raises(StepError, match="does not answer") as raised:
        HAPROXY.look(proxy.settings, proxy.servers["one"].member)
    assert not raised.value.permanent


def answers(proxy: Proxy, command: str) -> bytes:
    """What it says, to the last byte."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(str(proxy.socket))
        wire.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: wire.recv(65_536), b""))


@contextmanager
def breaks_off(answer: bytes) -> Iterator[str]:
    """The address of one that says so much to whoever asks, and goes away."""

    def serve() -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            with wire:
                wire.recv(65_536)
                wire.sendall(answer)

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_an_answer_that_breaks_off_is_a_passing_reason_and_nobody_is_missing_for_it(proxy: Proxy) -> None:
    whole = answers(proxy, "show stat")
    rows = whole.splitlines(keepends=True)
    two = proxy.servers["two"].member
    for cut in (b"", whole[:10], whole[:-40], rows[0], b"".join(rows[:-3])):
        with breaks_off(cut) as where, pytest.raises(StepError, match="broke off its answer") as raised:
            HAPROXY.look({**proxy.settings, "socket": where}, two)
        assert not raised.value.permanent
    with breaks_off(b"") as where, pytest.raises(StepError, match="broke off") as raised:
        HAPROXY.weigh({**proxy.settings, "socket": where}, {two: 5})
    assert not raised.value.permanent


def test_a_state_that_breaks_off_is_a_passing_reason(proxy: Proxy) -> None:
    whole = answers(proxy, "show servers state app")
    for cut in (b"", whole[:1], whole[:-1]):
        with breaks_off(cut) as where, pytest.raises(StepError, match="broke off its answer") as raised:
            HAPROXY.remove({**proxy.settings, "socket": where}, proxy.servers["two"].member)
        assert not raised.value.permanent


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"kind": "haproxy", "socket": "/run/haproxy.sock", "backend": "app"}, set()),
        ({"kind": "haproxy", "socket": "tcp://127.0.0.1:9999", "backend": "app"}, set()),
        ({"kind": "haproxy", "socket": "tcp://nowhere", "backend": "app"}, {"socket"}),
        ({"kind": "haproxy", "socket": "run/haproxy.sock", "backend": "a b"}, {"socket", "backend"}),
        ({"kind": "haproxy", "sockets": "/run/haproxy.sock"}, {"socket", "backend", "sockets"}),
    ],
)
def test_wrong_settings_are_said_by_key(settings: dict[str, str], wrong: set[str]) -> None:
    assert set(HAPROXY.problems(settings)) == wrong


def test_who_starts_slowly_keeps_the_weight_that_it_was_given() -> None:
    with proxying(slow_start="600s") as proxy:
        one = proxy.servers["one"]
        one.status = 503
        until(lambda: standing(proxy, "one") == Standing.UNHEALTHY)
        HAPROXY.weigh(proxy.settings, {one.member: 40})
        one.status = 200
        until(lambda: standing(proxy, "one") == Standing.SERVING)
        assert HAPROXY.look(proxy.settings, one.member).weight == 40
