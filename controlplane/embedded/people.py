"""The passwords of the demo's people: made once, kept in the data folder, readable by its owner only."""

from __future__ import annotations

import secrets
import tomllib
from pathlib import Path

from .files import read_json, write_private_json

PEOPLE_FILE = "demo-passwords.json"
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another


def ensure_passwords(data: Path, sample: Path) -> dict[str, str]:
    """The password of everybody in the configuration `sample`, by username; missing ones are made."""
    people = tomllib.loads(sample.read_text()).get("people", {})
    path = data / PEOPLE_FILE
    kept = read_json(path)
    passwords = {username: kept.get(username) or new_password() for username in people}
    if passwords != kept:
        write_private_json(path, passwords)
    return passwords


def sign_ins(data: Path, sample: Path) -> list[str]:
    """A line for everybody who can sign in: username, password, name and role."""
    people = tomllib.loads(sample.read_text()).get("people", {})
    passwords = ensure_passwords(data, sample)
    return [
        f"{username:<10}  {passwords[username]}   {person.get('name', username)}, "
        + ", ".join(f"{role} of {'everything' if scope == '*' else scope}" for scope, role in person["roles"].items())
        for username, person in people.items()
    ]


def new_password() -> str:
    """About 79 bits in four groups that can be typed from a screen."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(4))
