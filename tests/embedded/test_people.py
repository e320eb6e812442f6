"""The demo's people get passwords once; only the owner of the data folder can read them."""

from __future__ import annotations

from pathlib import Path

from controlplane.embedded.people import PEOPLE_FILE, ensure_passwords, sign_ins

ALICE = '[people.alice]\nname = "Alice Arden"\nroles = { "*" = "operator" }\n'
BOB = '[people.bob]\nname = "Bob Brandt"\nroles = { "*" = "viewer", production = "approver" }\n'


def test_they_are_made_once_and_for_whoever_comes_later(tmp_path: Path) -> None:
    sample = tmp_path / "sample.toml"
    sample.write_text(ALICE)
    first = ensure_passwords(tmp_path, sample)
    sample.write_text(ALICE + BOB)
    second = ensure_passwords(tmp_path, sample)
    assert second["alice"] == first["alice"]
    assert set(second) == {"alice", "bob"}
    assert len(set(second.values())) == 2
    assert all(len(password) >= 16 for password in second.values())


def test_they_are_for_the_owner_only(tmp_path: Path) -> None:
    sample = tmp_path / "sample.toml"
    sample.write_text(ALICE)
    ensure_passwords(tmp_path, sample)
    assert (tmp_path / PEOPLE_FILE).stat().st_mode & 0o777 == 0o600


def test_a_sign_in_says_who_it_is_and_what_they_may(tmp_path: Path) -> None:
    sample = tmp_path / "sample.toml"
    sample.write_text(BOB)
    (line,) = sign_ins(tmp_path, sample)
    password = ensure_passwords(tmp_path, sample)["bob"]
    assert line.split("  ", 1)[0] == "bob"
    assert password in line
    assert line.endswith("Bob Brandt, viewer of everything, approver of production")
