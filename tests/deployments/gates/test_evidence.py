"""What was reported of a release: the scan's findings against the policy's bounds, signatures against its keys."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deployments.gates.signatures import Forged, attested, pre_authentication, problem_with_key, signed
from deployments.models import ReleaseEvidence
from tests.deployments.gates.policies import asked, outcome, rule
from tests.estate import Estate

DIGEST = "sha256:" + "ab" * 32
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def document(digest: str = DIGEST, kind: str = "cosign container image signature") -> bytes:
    """As cosign writes it."""
    image = {"docker-manifest-digest": digest}
    return json.dumps({"critical": {"identity": {}, "image": image, "type": kind}, "optional": None}).encode()


def by_cosign(payload: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> dict[str, str]:
    signature = key.sign(payload, ec.ECDSA(hashes.SHA256()))
    return {"payload": base64.b64encode(payload).decode(), "signature": base64.b64encode(signature).decode()}


def envelope(digest: str = DIGEST, key: ec.EllipticCurvePrivateKey = KEY) -> dict[str, Any]:
    """A DSSE envelope around a statement of how it was built."""
    statement = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
                 "subject": [{"name": "api", "digest": {"sha256": digest.removeprefix("sha256:")}}]}  # fmt: skip
    payload, kind = json.dumps(statement).encode(), "application/vnd.in-toto+json"
    signature = key.sign(pre_authentication(kind, payload), ec.ECDSA(hashes.SHA256()))
    return {"payloadType": kind, "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}]}  # fmt: skip


class TestSignature:
    def test_of_the_image_by_a_key_of_the_policy(self) -> None:
        assert signed(by_cosign(document()), [pem(OTHER), pem(KEY)], DIGEST).startswith("signed with key ")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (by_cosign(document(), OTHER), "by no key"),
            (by_cosign(document("sha256:" + "cd" * 32)), "not of"),
            (by_cosign(document(kind="something else")), "not of"),
            ({**by_cosign(document()), "payload": base64.b64encode(document() + b" ").decode()}, "by no key"),
            ({"payload": "?", "signature": ""}, "not base64"),
            ({}, "by no key"),
            (by_cosign(b"[]"), "cannot be read"),
            (by_cosign(b'{"critical": []}'), "not of"),
        ],
    )
    def test_anything_else_is_refused_in_words(self, content: dict[str, str], words: str) -> None:
        with pytest.raises(Forged, match=words):
            signed(content, [pem(KEY)], DIGEST)

    def test_without_a_key_nothing_is_believed(self) -> None:
        with pytest.raises(Forged, match="names no key"):
            signed(by_cosign(document()), [], DIGEST)

    def test_other_kinds_of_keys(self) -> None:
        for key, sign in (
            (one := ed25519.Ed25519PrivateKey.generate(), one.sign),
            (two := rsa.generate_private_key(65537, 2048),
             lambda data: two.sign(data, padding.PKCS1v15(), hashes.SHA256())),
        ):  # fmt: skip
            content = {"payload": base64.b64encode(document()).decode(),
                       "signature": base64.b64encode(sign(document())).decode()}  # fmt: skip
            assert signed(content, [pem(key)], DIGEST)

    def test_a_key_that_is_none_is_said(self) -> None:
        assert problem_with_key("-----BEGIN NONSENSE-----")
        assert not problem_with_key(pem(KEY))


class TestAttestation:
    def test_about_the_image_by_a_key_of_the_policy(self) -> None:
        assert "slsa.dev/provenance" in attested(envelope(), [pem(KEY)], DIGEST)

    @pytest.mark.parametrize(
        "content",
        [
            envelope(key=OTHER),
            envelope("sha256:" + "cd" * 32),
            {**envelope(), "payloadType": "text"},
            {},
            {"signatures": [1]},
        ],
    )
    def test_anything_else_is_refused(self, content: dict[str, Any]) -> None:
        with pytest.raises(Forged):
            attested(content, [pem(KEY)], DIGEST)


@pytest.mark.django_db
class TestGates:
    def report(self, estate: Estate, kind: str, content: dict[str, Any]) -> None:
        count = ReleaseEvidence.objects.count()
        ReleaseEvidence.objects.create(
            release=estate.releases["1.5.0"], kind=kind, content=content, fingerprint=str(count), added_by_name="ci"
        )

    def test_a_scan_has_to_be_there_and_within_its_bounds(self, estate: Estate) -> None:
        rule(estate, evidence=["scan"], findings={"critical": 0, "high": 2})
        assert outcome(asked(estate)["scan"]) == "failed"
        self.report(estate, "scan", {"tool": "trivy", "findings": {"high": 2, "low": 9}})
        gate = asked(estate)["scan"]
        assert (outcome(gate), "did not say how many critical findings" in gate.reason) == ("failed", True)
        self.report(estate, "scan", {"tool": "trivy", "findings": {"critical": 0, "high": 2, "low": 9}})
        gate = asked(estate)["scan"]
        assert (outcome(gate), gate.reason) == ("passed", "trivy found 2 high, 9 low")
        self.report(estate, "scan", {"tool": "trivy", "findings": {"critical": 1, "high": 0}})
        gate = asked(estate)["scan"]
        assert (outcome(gate), gate.reason) == (
            "failed", "trivy found 1 critical: too many. Mend it and build a new release.",
        ), "the last one counts"  # fmt: skip

    def test_one_good_signature_is_enough(self, estate: Estate) -> None:
        digest = estate.releases["1.5.0"].digest
        rule(estate, evidence=["signature", "attestation"], keys=[pem(KEY)])
        gates = asked(estate)
        assert {outcome(gates[key]) for key in ("signature", "attestation")} == {"failed"}
        self.report(estate, "signature", by_cosign(document(digest), OTHER))
        assert outcome(asked(estate)["signature"]) == "failed"
        self.report(estate, "signature", by_cosign(document(digest)))
        self.report(estate, "attestation", envelope(digest))
        gates = asked(estate)
        assert {outcome(gates[key]) for key in ("signature", "attestation")} == {"passed"}

    def test_the_way_back_asks_for_none_of_it(self, estate: Estate) -> None:
        rule(estate, evidence=["scan"], soak_minutes=5, checklist=["look"], way_back="possible")
        assert set(asked(estate, "1.4.0", kind="rollback")) == {"promotion", "lock", "busy"}
