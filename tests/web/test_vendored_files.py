"""What others wrote and we ship is exactly what the manifest says."""

import hashlib
import json
import re
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "controlplane" / "web" / "static" / "vendor"
MANIFEST = json.loads((VENDOR / "MANIFEST.json").read_text())


def test_each_file_has_the_hash_of_the_manifest() -> None:
    found = {name: hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() for name in MANIFEST}
    assert found == {name: entry["sha256"] for name, entry in MANIFEST.items()}


def test_no_file_is_unlisted() -> None:
    files = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    assert files - {"MANIFEST.json"} == set(MANIFEST)


def test_each_file_says_where_it_is_from() -> None:
    for name, entry in MANIFEST.items():
        assert set(entry) == {"package", "version", "licence", "sha256", "source"}, name
        assert re.fullmatch(r"\d+\.\d+\.\d+", entry["version"]), name


def test_each_package_ships_its_licence() -> None:
    licensed = {entry["package"] for name, entry in MANIFEST.items() if name.startswith("licences/")}
    assert licensed == {entry["package"] for entry in MANIFEST.values()}


def test_nothing_is_loaded_from_elsewhere() -> None:
    for path in [*VENDOR.glob("*.css"), *VENDOR.parent.glob("*.css")]:
        text = path.read_text()
        assert not re.search(r"url\([\"']?(https?:)?//|@import|sourceMappingURL", text), path.name
