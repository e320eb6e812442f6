"""The page of an environment: instances as probed, secrets as references, locks with reasons."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.models import Person
from environments.models import ConfigEntry, EnvironmentLock, HealthSample, Placement
from tests.estate import Estate

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/environments/production"


def page(client: Client, person: Person, query: str = "") -> str:
    client.force_login(person)
    return client.get(PATH + query).content.decode()


def test_only_whoever_has_a_role_there(client: Client, estate: Estate, charlie: Person, eve: Person) -> None:
    assert client.get(PATH).status_code == 302
    for person in (charlie, eve):
        client.force_login(person)
        assert client.get(PATH).status_code == 404
        assert client.post(f"{PATH}/lock", {"reason": "x"}).status_code == 404
        assert client.post(f"{PATH}/unlock", {"lock": "1"}).status_code == 404


@pytest.mark.parametrize("action", ["lock", "unlock"])
def test_a_viewer_locks_nothing(client: Client, estate: Estate, dana: Person, action: str) -> None:
    assert client.post(f"{PATH}/{action}").status_code == 302
    client.force_login(dana)
    assert client.post(f"{PATH}/{action}", {"reason": "x", "lock": "1"}).status_code == 403
    assert client.get(f"{PATH}/{action}").status_code == 405
    assert "Lock Production" not in page(client, dana)


def test_the_demo_says_how_to_turn_containers_on(client: Client, estate: Estate, dana: Person, settings: Any) -> None:
    settings.DEMO_NOTES = {"production": "It runs as local processes: podman is not installed.", "staging": "Other."}
    assert "podman is not installed" not in page(client, dana), "only in a demo"
    settings.DEMO = True
    said = page(client, dana)
    assert "It runs as local processes: podman is not installed." in said
    assert "Other." not in said


def test_each_instance_as_it_was_probed(client: Client, estate: Estate, dana: Person) -> None:
    placement = Placement.objects.get(environment=estate.production)
    HealthSample.objects.create(
        placement=placement, instance="production-2", healthy=False, in_rotation=False, status=503,
        latency_ms=7, version="1.6.0", words="/health answered 503",
    )  # fmt: skip
    said = page(client, dana)
    assert "production-1" in said
    assert "/health answered 503" in said
    assert "1.6.0" in said
    assert all(f"?hours={hours}" in said for hours in (1, 6, 24))
    assert page(client, dana, "?hours=24") != page(client, dana, "?hours=-7")


def test_secrets_are_references(client: Client, estate: Estate, dana: Person) -> None:
    ConfigEntry.objects.create(environment=estate.production, key="DATABASE_URL", secret="file:production/db")
    ConfigEntry.objects.create(environment=estate.production, key="LOG_LEVEL", value="info")
    said = page(client, dana)
    assert "file:production/db" in said
    assert "info" in said


def test_a_lock_is_taken_and_released_with_its_reason(client: Client, estate: Estate, alice: Person) -> None:
    client.force_login(alice)
    assert client.post(f"{PATH}/lock", {"reason": " "}).status_code == 422
    assert client.post(f"{PATH}/lock", {"reason": "failover drill"}).status_code == 302
    lock = EnvironmentLock.objects.get()
    assert "Locked by Alice" in page(client, alice)
    for nonsense in ("0", "x", "9" * 40, str(lock.pk + 1)):
        assert client.post(f"{PATH}/unlock", {"lock": nonsense}).status_code == 409
    assert client.post("/environments/staging/unlock", {"lock": lock.pk}).status_code == 409
    assert client.post(f"{PATH}/unlock", {"lock": lock.pk}).status_code == 302
    assert client.post(f"{PATH}/unlock", {"lock": lock.pk}).status_code == 409
    said = page(client, alice)
    assert "Locked by Alice" not in said
    assert "released by Alice" in said


def test_its_price(
    client: Client, estate: Estate, alice: Person, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client.force_login(alice)
    with django_assert_max_num_queries(20):
        assert client.get(PATH).status_code == 200
