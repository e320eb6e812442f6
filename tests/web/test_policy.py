"""The headers of the guide's nginx section, without its unsafe-inline, on every kind of answer."""

import pytest
from django.core.management import call_command
from django.test import Client
from django.test.utils import override_settings

from controlplane.accounts.models import Person

pytestmark = pytest.mark.django_db

ADDRESSES = ("/", "/login", "/audit", "/people", "/nothing-here", "/api/v1/environments", "/healthz")


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_answer_says_what_a_browser_may_do(client: Client, ada: Person, address: str) -> None:
    client.force_login(ada)
    answer = client.get(address)
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert (answer["X-Frame-Options"], answer["X-Content-Type-Options"]) == ("DENY", "nosniff")
    assert answer["Referrer-Policy"] == "same-origin"


@override_settings(SECURE_HSTS_SECONDS=63072000, SECURE_HSTS_INCLUDE_SUBDOMAINS=True)
def test_browsers_are_told_to_come_by_tls_for_two_years(client: Client) -> None:
    assert client.get("/login", secure=True)["Strict-Transport-Security"].startswith("max-age=63072000")


def test_no_page_has_a_script_or_a_style_of_its_own(client: Client, ada: Person) -> None:
    client.force_login(ada)
    for address in ADDRESSES[:5]:
        page = client.get(address).content.decode()
        assert "<style" not in page
        assert " style=" not in page
        assert "<script>" not in page
        assert "javascript:" not in page


@override_settings(
    DEBUG=False, SECURE_SSL_REDIRECT=True, SESSION_COOKIE_SECURE=True, CSRF_COOKIE_SECURE=True,
    SECURE_HSTS_SECONDS=63072000, SECURE_HSTS_INCLUDE_SUBDOMAINS=True, SECURE_HSTS_PRELOAD=True,
    SECRET_KEY="".join(map(chr, range(40, 120))),
)  # fmt: skip
def test_the_deployment_checks_pass() -> None:
    call_command("check", deploy=True, fail_level="WARNING")
