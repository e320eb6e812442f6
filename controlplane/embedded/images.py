"""Container images of the sample service, as OCI archives made of nothing but Python.

The same content has the same digest on every computer of a kind, so a release can name its image before any engine has
seen it. Python itself is not in it: it is mounted into the containers from this computer.
"""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from controlplane.embedded import sample_service

# What an image of the sample holds: the service, and which release it is.
MAIN = """\
import json, os, sys
sys.path.insert(0, "/app")
import sample_service
release = json.load(open("/app/release.json"))
names = sorted(name for name in os.environ if name.isupper())
print("variables:", ", ".join(names), flush=True)
print("release", release["version"], release["say"], flush=True)
if release["exit"]:
    sys.exit(release["exit"])
sys.exit(sample_service.main([
    *sys.argv[1:], "--version", release["version"], "--health-status", str(release["health_status"]),
    "--fail-percent", str(release["fail_percent"])]))
"""
OCI = "application/vnd.oci.image"
# As Go names them, which OCI does too.
KINDS = {"x86_64": "amd64", "aarch64": "arm64"}
CREATED = "2026-01-01T00:00:00Z"


def sample_archive(
    image: str, version: str, *, health_status: int = 200, fail_percent: int = 0, ends: int = 0, say: str = ""
) -> tuple[str, bytes]:
    """An archive for `podman load` that makes `image`:`version`; its digest first.

    health_status: what /health answers. fail_percent: of all else, how much it answers with 500.
    ends: with this exit code, right after its start.
    """
    release = {
        "version": version, "health_status": health_status, "fail_percent": fail_percent, "exit": ends, "say": say,
    }  # fmt: skip
    layer = _tar(
        {
            "app/release.json": json.dumps(release).encode(),
            "app/main.py": MAIN.encode(),
            "app/sample_service.py": Path(sample_service.__file__).read_bytes(),
        },
        folders=("state", "tmp"),
    )
    kind = KINDS.get(platform.machine(), platform.machine())
    roots = {"type": "layers", "diff_ids": [_digest(layer)]}
    config = _json({"architecture": kind, "os": "linux", "created": CREATED, "config": {}, "rootfs": roots})
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": _entry(f"{OCI}.config.v1+json", config),
            "layers": [_entry(f"{OCI}.layer.v1.tar", layer)],
        }
    )
    named = {"annotations": {"org.opencontainers.image.ref.name": f"{image}:{version}"}}
    index = {"schemaVersion": 2, "manifests": [_entry(f"{OCI}.manifest.v1+json", manifest) | named]}
    blobs = {f"blobs/{_digest(blob).replace(':', '/')}": blob for blob in (config, manifest, layer)}
    layout = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    return _digest(manifest), _tar(layout | blobs)


def _entry(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _tar(content: dict[str, bytes], folders: tuple[str, ...] = ()) -> bytes:
    """Owned by root, as old as the epoch: nothing in it depends on who makes it, or when."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return held.getvalue()
