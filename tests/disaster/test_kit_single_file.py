"""recover.py is one file that needs Python and boto3 only; its own check of signatures agrees with a known one."""

import ast
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from backups.disaster.kit.script.ed25519 import ORDER, is_signed
from backups.disaster.kit.single_file import FOLDER, OWN, PIECES, script_text

KEY = "ab" * 32
# Of RFC 8032, section 7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


def roots(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


def test_it_needs_python_and_boto3_only() -> None:
    assert roots(script_text(KEY)) - sys.stdlib_module_names == {"boto3", "botocore"}


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_knows_nothing_of_the_project_but_pieces(piece: str) -> None:
    source = (FOLDER / f"{piece}.py").read_text()
    ours = [line for line in source.splitlines() if line.startswith("from backups")]
    assert all(line.startswith(f"from {OWN}.") for line in ours)
    assert roots(source) - sys.stdlib_module_names <= {"boto3", "botocore", "backups"}


def test_every_piece_is_in_it() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == set(PIECES)


def test_it_holds_the_key_and_compiles() -> None:
    text = script_text(KEY)
    compile(text, "recover.py", "exec")
    assert text.startswith("#!/usr/bin/env python3\n")
    assert f'PUBLIC_KEY = "{KEY}"\n' in text


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_signatures_of_the_standard_are_good(public: str, message: str, signature: str) -> None:
    assert is_signed(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511))
def test_what_another_library_signs_is_good_and_nothing_else(seed: bytes, message: bytes, bit: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signature = private.sign(message)
    assert is_signed(public, message, signature)
    assert not is_signed(public, message + b"!", signature)
    flipped = int.from_bytes(signature, "little") ^ (1 << bit)
    assert not is_signed(public, message, flipped.to_bytes(64, "little"))


def test_a_signature_has_one_form_only() -> None:
    public, message, signature = (bytes.fromhex(one) for one in VECTORS[1])
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not is_signed(public, message, signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize("public", [b"", b"\xff" * 32, b"\x02" + b"\x00" * 31])
def test_what_is_no_key_signs_nothing(public: bytes) -> None:
    assert not is_signed(public, b"", bytes.fromhex(VECTORS[0][2]))
