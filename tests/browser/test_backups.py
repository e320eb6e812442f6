"""Backups in the browser: one is made, proven and held; a database comes back beside the one in use, then over it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import Page, expect

from backups.models import Backup, Kind, Policy, PolicyClock, Storage
from backups.programs import Server
from tests.backups.databases import database, url_of
from tests.browser.company import Company
from tests.browser.conftest import Open

ROWS = """
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'u' || n FROM generate_series(1, 900) n;
"""


@pytest.fixture
def live(company: Company) -> Iterator[Server]:
    """Production has a database, and a policy for it that tests each backup."""
    with database(ROWS) as server:
        secret = Path(settings.DATA_DIR) / "secrets" / "production" / "database-url"
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text(url_of(server))
        storage = Storage.objects.create(slug="archive", kind="folder", settings={"path": "backups"})
        common = {
            "environment": company.environment("production"), "storage": storage, "schedule": "0 2 * * *",
            "rpo_seconds": 86400 * 2,
        }  # fmt: skip
        policies = [
            Policy.objects.create(
                **common, slug="database", kind=Kind.DATABASE, proof=Policy.Proof.EACH,
                settings={"database": "file:production/database-url"},
            ),
            Policy.objects.create(
                **common, slug="configuration", kind=Kind.CONFIGURATION, proof=Policy.Proof.NEVER,
            ),
        ]  # fmt: skip
        for policy in policies:
            PolicyClock.objects.create(policy=policy)
        yield server
        _query(server.named("postgres"), "DROP DATABASE IF EXISTS copy_of_it WITH (FORCE)")


def _query(server: Server, sql: str) -> list[tuple[object, ...]]:
    with server.connect(autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


def ask_for_restore(page: Page, where: str, name: str, *, live: bool = False) -> None:
    """From the backup's page through the wish and the plan to the request."""
    page.get_by_role("link", name="Restore…").click()
    page.get_by_label(where, exact=False).check()
    page.get_by_label("Name of the database").fill(name)
    page.get_by_role("button", name="Show the plan").click()
    expect(page.get_by_role("heading", name="The plan")).to_be_visible()
    page.get_by_label("Reason").fill("OPS-300")
    if live:
        page.get_by_label("Type production").fill("production")
    page.get_by_role("button", name="Ask for the restore").click()
    page.wait_for_url(re.compile(r"/operations/\d+$"))


def test_made_proven_held_and_restored(company: Company, open_as: Open, live: Server) -> None:
    alice, bob = open_as(company.alice), open_as(company.bob)

    # Made: by one button, watched live.
    alice.goto("/backups")
    expect(alice.locator("#production")).to_contain_text("no backup yet")
    alice.locator("tr", has_text="database dump").get_by_role("button").click()
    alice.wait_for_url(re.compile(r"/operations/\d+$"))
    expect(alice.locator("#_head")).to_contain_text("succeeded")
    expect(alice.locator("#log")).to_contain_text("public.users: 900 rows")

    # Proven: the clock has it restored, and the page says so without a reload.
    alice.reload()
    backup = Backup.objects.get()
    alice.locator("#_head").get_by_role("link", name=f"backup {backup.pk}").click()
    expect(alice.locator("#_backup")).to_contain_text("Verified")
    expect(alice.locator("#_backup")).to_contain_text("1 tables with 900 rows are as they were")
    expect(alice.locator("#tables-title + span")).to_contain_text("counted and hashed")

    # Held: no retention deletes it, and everybody reads why.
    alice.get_by_label("Why", exact=True).fill("the audit of November")
    alice.get_by_role("button", name="Hold it").click()
    expect(alice.locator("#_backup")).to_contain_text("“the audit of November”")

    # Restored beside the one in use: at once.
    ask_for_restore(alice, "A new database", "copy_of_it")
    expect(alice.locator("#_head")).to_contain_text("succeeded")
    assert _query(live.named("copy_of_it"), "SELECT count(*) FROM users") == [(900,)]

    # Over the one in use: a plan, an approval, a safety backup, and what was lost is back.
    _query(live, "DELETE FROM users WHERE id > 10")
    alice.goto(f"/backups/{backup.pk}")
    ask_for_restore(alice, "Over the existing", live.database, live=True)
    expect(alice.locator("#_head")).to_contain_text("waits for approval")
    bob.goto(alice.url)
    bob.get_by_role("button", name="Approve this plan").click()
    expect(alice.locator("#_head")).to_contain_text("succeeded")
    assert _query(live, "SELECT count(*) FROM users") == [(900,)]
    safety = Backup.objects.latest("pk")
    assert safety.pk != backup.pk and "taken for safety before" in safety.hold_reason
    assert [table["rows"] for table in safety.manifest["facts"]["tables"]] == [10]

    # The catalog has both; the overview says how well production is protected.
    alice.goto("/backups/catalog")
    expect(alice.locator("#_catalog tbody tr")).to_have_count(2)
    alice.goto("/backups")
    expect(alice.locator("#production")).to_contain_text("restorable to")
    expect(alice.locator("#production")).to_contain_text("proven")


def test_a_restore_point_and_a_policy_that_pauses(company: Company, open_as: Open, live: Server) -> None:
    alice = open_as(company.alice)
    alice.goto("/backups")
    alice.get_by_text("Make a restore point…").click()
    alice.get_by_label("Name of the restore point").fill("before 1.5.0")
    alice.get_by_label("Why", exact=True).fill("the release of tonight")
    alice.get_by_role("button", name="Make it").click()
    alice.wait_for_url(re.compile(r"/operations/\d+$"))
    expect(alice.locator("#_head")).to_contain_text("succeeded")
    alice.locator("#_head").get_by_role("link", name="before 1.5.0").click()
    expect(alice.locator("main")).to_contain_text("database dump")
    expect(alice.locator("main")).to_contain_text("Restore all of it")

    alice.goto("/backups/production/configuration")
    alice.get_by_label("Why", exact=True).last.fill("moving house")
    alice.get_by_role("button", name="Pause it").click()
    expect(alice.locator("#_policy")).to_contain_text("paused")
    assert Policy.objects.get(slug="configuration").paused
    alice.get_by_label("Why", exact=True).last.fill("moved")
    alice.get_by_role("button", name="Go on by schedule").click()
    expect(alice.locator("#_policy")).not_to_contain_text("paused")


def test_a_dump_that_cannot_be_made_says_why(company: Company, open_as: Open, live: Server) -> None:
    Policy.objects.filter(slug="database").update(settings={"database": "file:production/database-url"})
    (Path(settings.DATA_DIR) / "secrets" / "production" / "database-url").write_text(
        url_of(live).replace(live.password, "a-wrong-password-of-somebody")
    )
    alice = open_as(company.alice)
    alice.goto("/backups/production/database")
    alice.get_by_role("button", name="Back up now").click()
    alice.wait_for_url(re.compile(r"/operations/\d+$"))
    expect(alice.locator("#_head")).to_contain_text("failed")
    expect(alice.locator("#_head")).to_contain_text("password authentication failed")
    assert "a-wrong-password-of-somebody" not in alice.content()
    assert not Backup.objects.exists()
    alice.goto("/")
    expect(alice.locator(".now")).to_contain_text("production/database: the last run failed")
