"""Hosts could go back while each of them has the image, or the registry it would pull it from."""

import pytest

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from environments.drivers.base import Kept, Software
from environments.registries import parts_of
from tests.backups.registries import Content, Wire
from tests.environments.hosts.conftest import MakePark
from tests.environments.hosts.park import DRIVER, Park

GONE = "sha256:" + "0" * 64


def kept(park: Park, software: Software) -> Kept:
    found: Kept = DRIVER.kept(park.target, software)
    return found


def test_the_image_on_each_host_is_enough(park: MakePark, wire: Wire) -> None:
    production = park(2)
    found = kept(production, production.images.release("1.4.0"))
    assert found == Kept(Outcome.PASSED, "its image is on server1, server2, by its digest")
    assert wire.asked == []


def test_what_a_host_does_not_have_the_registry_may(park: MakePark, content: Content, repository: str) -> None:
    production = park(1)
    there = kept(production, Software("2.0.0", f"{repository}:2.0.0", content.image(b"a layer")))
    assert (there.outcome, "from which server1 would pull it again" in there.words) == (Outcome.PASSED, True)
    gone = kept(production, Software("2.0.0", repository, GONE))
    assert gone.outcome is Outcome.FAILED
    assert gone.words.startswith("neither server1 nor the registry 127.0.0.1:")


def test_the_password_is_that_of_the_pull(
    park: MakePark, content: Content, wire: Wire, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.auth = "token"
    software = Software("2.0.0", repository, content.image(b"a layer"))
    production = park(1)
    with pytest.raises(StepError, match=r"without a password\. Pull it there, or give") as told:
        kept(production, software)
    assert told.value.permanent
    monkeypatch.setenv("REGISTRY_PASSWORD", wire.user[1])
    login = {"host": parts_of(repository)[0], "username": wire.user[0], "password": "env:REGISTRY_PASSWORD"}
    production.settings(registry=login)
    assert kept(production, software).outcome is Outcome.PASSED


def test_the_password_is_for_no_other_registry(
    park: MakePark, content: Content, wire: Wire, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may name an image says who is asked whether it is still there."""
    wire.auth = "basic"
    monkeypatch.setenv("REGISTRY_PASSWORD", wire.user[1])
    login = {"host": "ghcr.io", "username": wire.user[0], "password": "env:REGISTRY_PASSWORD"}
    production = park(1, registry=login)
    with pytest.raises(StepError, match="without a password"):
        kept(production, Software("2.0.0", repository, content.image(b"a layer")))
    assert {shown for _, shown in wire.asked} == {""}


def test_a_host_that_does_not_answer_proves_nothing(park: MakePark) -> None:
    production = park(1, hosts={"server1": {"engine": "unix:///tmp/nobody-there.sock"}})
    with pytest.raises(StepError, match="server1: The engine's socket /tmp/nobody-there") as told:
        kept(production, Software("2.0.0", "127.0.0.1:1/team/api", GONE))
    assert not told.value.permanent
