"""The key that kits are signed with: made from SECRET_KEY as other signed things here are, so there is none to lose.

The public half is printed in every runbook. Compare it with what `manage.py recovery_kit key` says while the control
plane is there, and keep it on paper: whoever can change a kit can also print another key in it.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.utils.crypto import salted_hmac

SALT = "backups.disaster.kit"


def sign(message: bytes) -> str:
    """The signature of this installation, in hex."""
    return _key(settings.SECRET_KEY).sign(message).hex()


def public_key() -> str:
    """What checks it, in hex."""
    return _public(settings.SECRET_KEY)


def known_keys() -> list[str]:
    """The public keys of this installation: the present one, then those of former values of SECRET_KEY."""
    return [_public(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def _key(secret: str) -> Ed25519PrivateKey:
    seed = salted_hmac(SALT, "signing", secret=secret, algorithm="sha256").digest()
    return Ed25519PrivateKey.from_private_bytes(seed)


def _public(secret: str) -> str:
    return _key(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
