"""A port is given out once: nobody holds it until somebody listens on it."""

import random
import socket

import pytest

from controlplane.embedded import processes
from controlplane.embedded.processes import free_port
from tests.ports import PORTS


def test_no_port_is_given_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PORTS", range(33_000, 33_008))
    monkeypatch.setattr(processes, "_given", {})
    given = [free_port() for _ in range(3)]
    two = free_port(together=2)
    assert len({*given, two, two + 1}) == 5


def test_when_no_other_is_left_the_first_is_given_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PORTS", range(33_020, 33_023))
    monkeypatch.setattr(processes, "_given", {})
    given = [free_port() for _ in range(4)]
    assert given[3] == given[0]


def test_two_programs_do_not_go_through_them_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for _ in range(2):
        monkeypatch.setattr(processes, "_given", {})
        random.seed(1)
        seen.append([free_port() for _ in range(3)])
    assert seen[0] != seen[1]


def test_one_that_somebody_listens_on_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PORTS", range(33_030, 33_032))
    monkeypatch.setattr(processes, "_given", {})
    with socket.socket() as server:
        server.bind(("127.0.0.1", 33_030))
        server.listen()
        assert free_port() == 33_031
        assert free_port(33_030) == 33_031


def test_tests_have_ports_that_no_program_chooses() -> None:
    assert free_port() in PORTS
    assert PORTS.stop == 20_000
