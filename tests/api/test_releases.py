"""POST releases: a built version is made known once, by an operator, and its name is never given to another."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from controlplane.accounts.models import Grant, Person, Role
from controlplane.audit.models import Entry
from deployments.models import Release
from tests.api.conftest import Calls, assert_problem
from tests.estate import Estate

BUILT = {
    "service": "api", "version": "2.0.0", "image": "registry/api:2.0.0", "digest": "sha256:" + "a" * 64,
    "commit": "0a1b2c3", "ci": "passed",
}  # fmt: skip
# What nobody reported of it.
NOTHING = {"migrations": "", "evidence": []}


def test_a_release_is_made_known(alice: Person, estate: Estate, calls: Calls) -> None:
    answer = calls(alice).post("releases", BUILT)
    assert (answer.status_code, answer.json()) == (201, BUILT | NOTHING)
    release = Release.objects.get(version="2.0.0")
    assert (release.service, release.digest, release.created_by_name) == (estate.service, BUILT["digest"], "Alice")
    assert Entry.objects.filter(action="release.added", actor="Alice").count() == 1


def test_commit_and_checks_may_be_unknown(alice: Person, estate: Estate, calls: Calls) -> None:
    told = {name: BUILT[name] for name in ("service", "version", "image", "digest")}
    assert calls(alice).post("releases", told).json() == told | {"commit": "", "ci": ""} | NOTHING


def test_the_same_again_is_no_change(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    assert [caller.post("releases", BUILT).status_code for _ in range(2)] == [201, 201]
    assert Release.objects.filter(version="2.0.0").count() == 1
    assert Entry.objects.filter(action="release.added").count() == 1


def test_the_end_of_the_checks_is_told_later(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    assert caller.post("releases", BUILT | {"ci": "pending"}).json()["ci"] == "pending"
    assert caller.post("releases", BUILT).json()["ci"] == "passed"
    # What has ended is not told otherwise afterwards.
    assert caller.post("releases", BUILT | {"ci": "failed"}).json()["ci"] == "passed"


def test_who_says_nothing_of_the_checks_changes_nothing_of_them(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    caller.post("releases", BUILT | {"ci": "pending"})
    assert caller.post("releases", BUILT | {"ci": "", "migrations": "none"}).json()["ci"] == "pending"
    assert Release.objects.get(version="2.0.0").ci == "pending"


def test_a_known_version_keeps_its_digest(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    caller.post("releases", BUILT)
    other = BUILT | {"digest": "sha256:" + "b" * 64}
    assert_problem(caller.post("releases", other), 409, "a new version")
    assert Release.objects.get(version="2.0.0").digest == BUILT["digest"]


def test_a_digest_comes_from_one_repository(alice: Person, estate: Estate, calls: Calls) -> None:
    """Whoever may add releases does not choose where an image that runs elsewhere is fetched from."""
    caller = calls(alice)
    caller.post("releases", BUILT)
    other = BUILT | {"version": "2.0.1", "image": "evil.example/registry/api:2.0.0"}
    assert_problem(caller.post("releases", other), 409, "known from registry/api, as 2.0.0")
    assert not Release.objects.filter(version="2.0.1").exists()


@pytest.mark.parametrize("image", ["registry/api:2.0.1", "docker.io/registry/api"])
def test_the_same_build_may_have_another_version(alice: Person, estate: Estate, calls: Calls, image: str) -> None:
    caller = calls(alice)
    caller.post("releases", BUILT)
    assert caller.post("releases", BUILT | {"version": "2.0.1", "image": image}).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_of_several_repositories_at_once_one_is_first(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)

    def add(number: int) -> int:
        try:
            told = BUILT | {"version": f"2.0.{number}", "image": f"registry-{number}.example/api"}
            return int(caller.post("releases", told).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as callers:
        assert sorted(callers.map(add, range(4))) == [201, 409, 409, 409]


def test_an_unknown_service_is_422(alice: Person, estate: Estate, calls: Calls) -> None:
    assert_problem(calls(alice).post("releases", BUILT | {"service": "nothing"}), 422, "no service nothing")


@pytest.mark.parametrize("name", ["dana", "charlie"])
def test_only_operators_add_releases_and_an_attempt_is_recorded(
    name: str, request: pytest.FixtureRequest, estate: Estate, calls: Calls
) -> None:
    person = request.getfixturevalue(name)
    assert_problem(calls(person).post("releases", BUILT), 403, "Only operators")
    assert not Release.objects.filter(version="2.0.0").exists()
    denied = Entry.objects.get(actor_id=person.pk, data__denied=True)
    assert denied.target == "release api 2.0.0"


def test_an_operator_where_the_service_has_a_place_may(charlie: Person, estate: Estate, calls: Calls) -> None:
    Grant.objects.create(person=charlie, scope="staging", role=Role.OPERATOR)
    assert calls(charlie).post("releases", BUILT).status_code == 201


def test_an_operator_of_other_services_may_not_touch_it(eve: Person, estate: Estate, calls: Calls) -> None:
    Release.objects.update(ci="pending")
    for body in (BUILT, {**BUILT, "version": "1.5.0"}):
        assert_problem(calls(eve).post("releases", body), 403, "in which api has a place")
    assert not Release.objects.filter(ci="passed").exists()
