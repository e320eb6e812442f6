"""Encryption of backups on this side of the storage: age, so that stock tools open them (`age -d -i key.txt`).

Only the recipient (a public key) is needed to make backups; the identity that opens them is a secret reference.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Sealer:
    """recipient: an age public key, "" for no encryption. identity: the reference of the secret key, to open."""

    recipient: str = ""
    identity: str = ""

    @property
    def key_id(self) -> str:
        """Whom it is encrypted to, as the manifest says; "" for nobody."""
        return self.recipient

    @property
    def suffix(self) -> str:
        """What an object's name ends with: ".age" or nothing."""
        return ".age" if self.recipient else ""

    def seal(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The stream as it goes to the storage, in constant memory."""
        raise NotImplementedError

    def unseal(self, source: BinaryIO, key_id: str) -> BinaryIO:
        """The stream as it was before; key_id: of the manifest, "" for one that is not encrypted.

        Raises StepError(permanent) for a wrong or missing key, naming both key ids, and, on reading, for bytes that
        were changed.
        """
        raise NotImplementedError


def problem_with_recipient(recipient: str) -> str:
    """What is wrong with a recipient that is about to be configured, in words; "" when nothing is."""
    raise NotImplementedError
