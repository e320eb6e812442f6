"""verify_audit finds the first entry that does not hold, whatever was done to it."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.audit.chain import GENESIS, digest
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM, Who, record
from tests.audit.tampering import as_superuser

ALICE = Who("Alice", 7, "web")

pytestmark = pytest.mark.django_db


def verify(expect: str = "") -> str:
    out = io.StringIO()
    call_command("verify_audit", expect=expect, stdout=out)
    return out.getvalue()


@pytest.fixture
def chain(db: None) -> list[Entry]:
    return [
        record(ALICE, "thing.done", f"thing {number}", scopes=["b", "a"], reason="because", data={"n": 1.5})
        for number in range(1, 7)
    ]


def test_it_holds(chain: list[Entry]) -> None:
    assert verify() == f"6 entries hold. Head: {chain[-1].hash}\n"
    assert chain[0].previous_hash == GENESIS
    assert [entry.pk for entry in chain] == [1, 2, 3, 4, 5, 6]
    assert chain[0].at <= chain[1].at


def test_nothing_holds_too() -> None:
    assert verify() == f"0 entries hold. Head: {GENESIS}\n"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("at", "2020-01-01T00:00:00Z"), ("actor", "Bob"), ("actor_id", 8), ("via", "api token x"),
        ("action", "thing.undone"), ("target", "thing 9"), ("scopes", ["a"]), ("reason", "no"), ("data", '{"n": 2}'),
        ("hash", "f" * 64),
    ],
)  # fmt: skip
def test_a_changed_entry_is_named(chain: list[Entry], field: str, value: object) -> None:
    as_superuser(f"UPDATE audit_entry SET {field} = %s WHERE id >= 4", value)
    with pytest.raises(CommandError, match="entry 4 was changed"):
        verify()


def test_a_changed_entry_with_a_fitting_hash_has_no_successor(chain: list[Entry]) -> None:
    entry = chain[3]
    entry.reason = "another"
    as_superuser("UPDATE audit_entry SET reason = %s, hash = %s WHERE id = 4", entry.reason, digest(entry))
    with pytest.raises(CommandError, match="entry 5 has the wrong predecessor"):
        verify()


@pytest.mark.parametrize("gone", [1, 3, 5])
def test_a_missing_entry_is_named(chain: list[Entry], gone: int) -> None:
    as_superuser("DELETE FROM audit_entry WHERE id = %s", gone)
    with pytest.raises(CommandError, match=f"entry {gone} is missing"):
        verify()


def test_closing_the_gap_does_not_help(chain: list[Entry]) -> None:
    as_superuser("DELETE FROM audit_entry WHERE id = 3")
    as_superuser("UPDATE audit_entry SET id = id - 1 WHERE id > 3")
    with pytest.raises(CommandError, match="entry 3 has the wrong predecessor"):
        verify()


def test_a_cut_off_end_shows_against_an_earlier_head(chain: list[Entry]) -> None:
    head = chain[-1].hash
    record(SYSTEM("test"), "thing.done", "thing 7")
    assert verify(expect=head).startswith("7 entries hold")
    as_superuser("DELETE FROM audit_entry WHERE id >= 6")
    assert verify().startswith("5 entries hold")
    with pytest.raises(CommandError, match=r"entry 6 is missing.*none has the hash"):
        verify(expect=head)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.dictionaries(st.text(max_size=5), plain, max_size=4), text=st.text(max_size=30))
def test_whatever_is_recorded_holds(data: dict[str, Any], text: str) -> None:
    entry = record(Who(text, None, text), "thing.done", text, reason=text, data=data)
    assert digest(Entry.objects.get(pk=entry.pk)) == entry.hash
