"""Signatures of images, verified with public keys. Pure.

Two forms. A signature as cosign makes it with a key: a “simple signing” document that names the image's digest, and a
signature of its bytes (https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md). An attestation: a DSSE
envelope (https://github.com/secure-systems-lab/dsse) around an in-toto statement whose subject has the digest.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
STATEMENTS = "https://in-toto.io/Statement/"
SIMPLE_SIGNING = "cosign container image signature"


class Forged(Exception):
    """It does not show what it should; the text says why."""


def signed(content: Mapping[str, Any], keys: Sequence[str], digest: str) -> str:
    """By whom the image was signed, in words. content: payload and signature in base64. Raises Forged."""
    payload = _bytes(content, "payload")
    by = _signer(payload, _bytes(content, "signature"), keys)
    critical = _object(payload).get("critical")
    critical = critical if isinstance(critical, dict) else {}
    image = critical.get("image")
    named = image.get("docker-manifest-digest") if isinstance(image, dict) else None
    if critical.get("type") != SIMPLE_SIGNING or named != digest:
        raise Forged(f"the signature is one of {named or 'something else'}, not of {digest}")
    return f"signed with {by}"


def attested(content: Mapping[str, Any], keys: Sequence[str], digest: str) -> str:
    """By whom its build was attested, in words. content: a DSSE envelope. Raises Forged."""
    payload, kind = _bytes(content, "payload"), str(content.get("payloadType", ""))
    signatures = content.get("signatures")
    by = ""
    for one in signatures if isinstance(signatures, list) else []:
        try:
            by = _signer(pre_authentication(kind, payload), _bytes(one if isinstance(one, dict) else {}, "sig"), keys)
            break
        except Forged:
            continue
    if not by:
        raise Forged("none of the attestation's signatures is by a key of the policy")
    statement = _object(payload)
    subjects = statement.get("subject")
    wanted = digest.removeprefix("sha256:")
    names = [one.get("digest") for one in subjects if isinstance(one, dict)] if isinstance(subjects, list) else []
    about = any(isinstance(one, dict) and one.get("sha256") == wanted for one in names)
    if not str(statement.get("_type", "")).startswith(STATEMENTS) or not about:
        raise Forged(f"the attestation is not about {digest}")
    return f"{statement.get('predicateType') or 'a statement'}, signed with {by}"


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """What a DSSE signature signs."""
    encoded = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(encoded), encoded, len(payload), payload)


def problem_with_key(pem: str) -> str:
    """What is wrong with a public key, in words; "" for nothing."""
    try:
        _key(pem)
    except Forged as error:
        return str(error)
    return ""


def _signer(message: bytes, signature: bytes, keys: Sequence[str]) -> str:
    """Which of the keys signed it, by the beginning of its fingerprint. Raises Forged."""
    for pem in keys:
        key = _key(pem)
        try:
            _verify(key, message, signature)
        except InvalidSignature:
            continue
        data = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"key {hashlib.sha256(data).hexdigest()[:12]}"
    raise Forged("the signature is by no key of the policy" if keys else "the policy names no key")


def _verify(key: PublicKey, message: bytes, signature: bytes) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    else:
        key.verify(signature, message)


def _key(pem: str) -> PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Forged("a key is no public key in PEM") from error
    if not isinstance(key, PublicKey):
        raise Forged("a key is neither ECDSA, RSA nor Ed25519")
    return key


def _bytes(content: Mapping[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(str(content.get(name, "")), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Forged(f"its {name} is not base64") from error


def _object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Forged("what was signed cannot be read") from error
    if not isinstance(found, dict):
        raise Forged("what was signed cannot be read")
    return found
