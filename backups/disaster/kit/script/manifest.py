"""MANIFEST: what is in the kit, by SHA-256, as `sha256sum -c MANIFEST` reads it; MANIFEST.sig signs it."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from backups.disaster.kit.script.ed25519 import is_signed
from backups.disaster.kit.script.errors import Broken

MANIFEST, SIGNATURE = "MANIFEST", "MANIFEST.sig"
PLAN, RUNBOOK, SCRIPT = "plan.json", "RUNBOOK.md", "recover.py"
CONTENTS = (PLAN, RUNBOOK, SCRIPT)
LARGEST = 4 * 1024 * 1024  # bytes of one file


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """The manifest of these files."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def check_files(files: Mapping[str, bytes], public: str) -> None:
    """Whether these are the files of a kit that was signed with the key (hex). Raises Broken, in words."""
    missing = [name for name in (*CONTENTS, MANIFEST, SIGNATURE) if name not in files]
    if missing:
        raise Broken(f"The kit has no {', no '.join(missing)}: it is not whole.")
    check_signature(files[MANIFEST], files[SIGNATURE].decode("ascii", "replace"), public)
    contents = {name: files[name] for name in CONTENTS}
    if manifest_of(contents) == files[MANIFEST]:
        return
    listed = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", files[MANIFEST].decode("utf-8", "replace"), re.MULTILINE))
    listed = {name: digest for digest, name in listed.items()}
    changed = [name for name in CONTENTS if hashlib.sha256(files[name]).hexdigest() != listed.get(name)]
    raise Broken(f"{', '.join(changed) or MANIFEST} was changed since the kit was made. Fetch the kit again.")


def check_signature(manifest: bytes, signature: str, public: str) -> None:
    """Whether the manifest was signed with the key (hex). Raises Broken, in words."""
    try:
        good = is_signed(bytes.fromhex(public), manifest, bytes.fromhex(signature.strip()))
    except ValueError:
        good = False
    if not good:
        raise Broken(f"The manifest is not signed with the key {public}. Compare it with the one that was printed.")


def files_in(folder: Path) -> dict[str, bytes]:
    """The kit's files as they are in a folder. What is not there, or far too large, is left out."""
    files = {}
    for name in (*CONTENTS, MANIFEST, SIGNATURE):
        path = folder / name
        if path.is_file() and path.stat().st_size <= LARGEST:
            files[name] = path.read_bytes()
    return files
