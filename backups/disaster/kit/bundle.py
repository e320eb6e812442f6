"""A kit: plan.json, RUNBOOK.md, recover.py, a manifest of them and its signature, in one .tar.gz."""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import dataclass
from datetime import datetime

from backups.disaster.base import Candidate
from backups.disaster.databases import DATABASES
from backups.disaster.kit.contents import Json, contents_of, with_candidates, without_secrets
from backups.disaster.kit.runbook import runbook_of
from backups.disaster.kit.script.errors import Broken
from backups.disaster.kit.script.manifest import (
    CONTENTS,
    LARGEST,
    MANIFEST,
    PLAN,
    RUNBOOK,
    SCRIPT,
    SIGNATURE,
    check_files,
    manifest_of,
)
from backups.disaster.kit.signing import known_keys, public_key, sign
from backups.disaster.kit.single_file import script_text
from backups.disaster.sides import database_part, sides
from backups.models import RecoveryPlan
from controlplane.operations.errors import Invalid, StepError
from environments.secrets import secrets_of

MOST_CANDIDATES = 20


@dataclass(frozen=True)
class Kit:
    """name: of the file, without a folder. content: the .tar.gz.

    content_digest: of what the plan says, without times.
    """

    name: str
    content: bytes
    content_digest: str

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()


def content_digest_of(plan: RecoveryPlan) -> str:
    """Changes when a kit that is made now would do something else than one made before, or would do it otherwise.

    The script's own text and the key count too: whoever updates the control plane gets new kits.
    """
    script = script_text(public_key())
    return hashlib.sha256(f"{contents_of(plan)['content_digest']}{script}".encode()).hexdigest()


def make_kit(plan: RecoveryPlan, now: datetime) -> Kit:
    """The kit of a plan as it is now; asks the cloud what could be restored, so not in a transaction."""
    found, trouble = _candidates(plan)
    contents = {**contents_of(plan), "content_digest": content_digest_of(plan)}
    contents = with_candidates(contents, found[:MOST_CANDIDATES], trouble, now.isoformat(timespec="seconds"))
    secrets = [value for environment in (plan.primary, plan.standby) for value in secrets_of(environment)]
    files = {
        PLAN: without_secrets(_json(contents), secrets).encode(),
        RUNBOOK: without_secrets(runbook_of(contents, public_key()), secrets).encode(),
        SCRIPT: script_text(public_key()).encode(),
    }
    files[MANIFEST] = manifest_of(files)
    files[SIGNATURE] = f"{sign(files[MANIFEST])}\n".encode()
    name = f"recovery-kit-{plan.slug}-{now:%Y-%m-%dT%H%M%SZ}"
    return Kit(f"{name}.tar.gz", _packed(files, name, now), contents["content_digest"])


def _json(contents: Json) -> str:
    return json.dumps(contents, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _candidates(plan: RecoveryPlan) -> tuple[list[Candidate], str]:
    """What could be restored, or why nobody can say. A kit is worth having without."""
    database = DATABASES.get(plan.database.get("kind", ""))
    if database is None:
        return [], "the plan names no kind of database that this control plane knows"
    try:
        return database.candidates(*sides(plan, database_part(plan), plan.serving)), ""
    except StepError as error:
        return [], str(error)


def _packed(files: dict[str, bytes], folder: str, now: datetime) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=now.timestamp()) as zipped,
        tarfile.open(mode="w", fileobj=zipped, format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in files.items():
            about = tarfile.TarInfo(f"{folder}/{name}")
            about.size, about.mtime = len(content), int(now.timestamp())
            about.mode = 0o755 if name == SCRIPT else 0o644
            tar.addfile(about, io.BytesIO(content))
    return packed.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    """The files of a kit, by name. Raises Invalid, in words, for what is none."""
    known = (*CONTENTS, MANIFEST, SIGNATURE)
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                source = tar.extractfile(member) if member.isfile() and name in known else None
                if source is None or member.size > LARGEST or name in files:
                    raise Invalid(f"{member.name} does not belong into a kit.")
                files[name] = source.read()
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError) as error:
        raise Invalid(f"This is no recovery kit: {error}.") from error
    return files


def check_kit(content: bytes, keys: list[str] | None = None) -> Json:
    """The plan of a kit that is whole and was signed with one of the keys (ours, if none are given). Raises Invalid."""
    files = unpacked(content)
    trouble = ""
    for key in keys or known_keys():
        try:
            check_files(files, key)
        except Broken as error:
            trouble = trouble or str(error)
        else:
            plan: Json = json.loads(files[PLAN])
            return plan
    raise Invalid(trouble)
