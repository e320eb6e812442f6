"""Keys follow the issuer's: a new one at once, one that was taken away soon, and made-up names ask nobody."""

import json

import pytest

from controlplane.accounts.programs import CannotTell
from deployments.models import Pipeline
from deployments.pipelines.keys import EXPIRE_SECONDS, FRESH_SECONDS, PAUSE_SECONDS, Keys
from environments.addresses import Answer, NoAnswer
from tests.api.conftest import assert_problem
from tests.deployments.pipelines.conftest import Run
from tests.deployments.pipelines.issuer import EC, RSA, Issuer

URL = "https://issuer.example/keys"


class World:
    """An issuer on paper, and the time."""

    def __init__(self) -> None:
        self.now, self.asked, self.published, self.down = 0.0, 0, [RSA["one"]], False
        self.keys = Keys(self.fetch, lambda: self.now)

    def fetch(self, url: str, timeout: float) -> Answer:
        self.asked += 1
        if self.down:
            raise NoAnswer("connection refused")
        body = json.dumps({"keys": [key.as_dict(private=False) for key in self.published]})
        return Answer(200, body.encode(), 1.0)

    def knows(self, kid: str) -> bool:
        return self.keys.find(URL, kid) is not None


@pytest.fixture
def world() -> World:
    return World()


def test_a_set_is_fetched_once(world: World) -> None:
    assert all(world.knows("one") for _ in range(5))
    assert world.asked == 1


def test_a_new_key_is_found_by_one_fetch(world: World) -> None:
    assert world.knows("one")
    world.published.append(RSA["two"])
    world.now += PAUSE_SECONDS
    assert world.knows("two")
    assert world.asked == 2


def test_made_up_names_ask_nobody(world: World) -> None:
    assert world.knows("one")
    assert not any(world.knows(f"made-up-{number}") for number in range(50))
    assert world.asked == 1
    world.now += PAUSE_SECONDS
    assert not any(world.knows(f"made-up-{number}") for number in range(50))
    assert world.asked == 2


def test_a_key_that_was_taken_away(world: World) -> None:
    assert world.knows("one")
    world.published = [RSA["two"]]
    world.now += FRESH_SECONDS
    assert not world.knows("one")


def test_an_issuer_that_is_down_is_borne_for_a_while(world: World) -> None:
    assert world.knows("one")
    world.down = True
    world.now += FRESH_SECONDS
    assert world.knows("one")
    world.now = EXPIRE_SECONDS
    with pytest.raises(CannotTell, match="connection refused"):
        world.knows("one")


def test_one_that_was_never_reached_and_then_is(world: World) -> None:
    world.down = True
    for _ in range(3):
        with pytest.raises(CannotTell):
            world.knows("one")
    assert world.asked == 1
    world.down, world.now = False, PAUSE_SECONDS
    assert world.knows("one")


def test_keys_for_something_else_are_left_out(world: World) -> None:
    told = [RSA["one"].as_dict(private=False) | {"use": "enc"}, {"kid": "x"}, {"kid": "y", "kty": "RSA", "n": 1}, 5]
    world.keys = Keys(lambda url, timeout: Answer(200, json.dumps({"keys": told}).encode(), 1.0))
    assert not any(world.knows(kid) for kid in ("one", "x", "y"))


@pytest.mark.parametrize("answer", [Answer(200, b"[]", 1.0), Answer(500, b'{"keys": []}', 1.0), Answer(200, b"{", 1.0)])
def test_what_is_no_set(answer: Answer) -> None:
    with pytest.raises(CannotTell, match="without a list of keys"):
        Keys(lambda url, timeout: answer).find(URL, "one")


def test_rotation_over_the_wire(run: Run, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.report().status_code == 201
    issuer.published = [RSA["two"], EC]
    assert_problem(run.report("2.0.1", token=issuer.token(RSA["two"])), 401, "no key")  # too soon to ask again
    monkeypatch.setattr("deployments.pipelines.keys.PAUSE_SECONDS", 0.0)
    assert run.report("2.0.1", token=issuer.token(RSA["two"])).status_code == 201
    assert_problem(run.report("2.0.2"), 401, "no key")  # the old key is gone


def test_an_issuer_that_does_not_answer_is_503(run: Run, issuer: Issuer) -> None:
    issuer.broken = True
    answer = run.report()
    assert_problem(answer, 503, "keys of the issuer")
    assert answer.headers["Retry-After"]


def test_an_issuer_nobody_declared_is_never_asked(run: Run, issuer: Issuer, rule: Pipeline) -> None:
    Pipeline.objects.update(issuer="https://token.actions.githubusercontent.com")
    assert_problem(run.report(), 401)
    assert issuer.asked == 0


def test_keys_at_a_metadata_address_are_not_fetched(run: Run, rule: Pipeline) -> None:
    Pipeline.objects.update(keys_url="http://169.254.169.254/keys")
    assert_problem(run.report(), 503, "link-local")
