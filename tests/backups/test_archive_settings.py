"""manage.py archive_settings: a real server takes the lines, and the script archives safely."""

import shutil
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from backups.models import Kind, Policy, Storage
from environments.models import Environment
from tests.backups.clusters import Source

NAME = "000000010000000A000000FE"


@pytest.fixture
def policy(db: None, data_dir: Path, tmp_path: Path) -> Policy:
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "source").write_text("postgres://keeper:a-long-password@db.example/shop")
    environment = Environment.objects.create(slug="place", name="Place", position=900)
    storage = Storage.objects.create(slug="disk", kind="folder", settings={"path": str(tmp_path / "kept here")})
    return Policy.objects.create(
        environment=environment, slug="pitr", kind=Kind.PITR, storage=storage, schedule="0 2 * * *",
        settings={"database": "file:source"},
    )  # fmt: skip


def said(name: str = "place/pitr") -> str:
    out = StringIO()
    call_command("archive_settings", name, stdout=out)
    return out.getvalue()


def script_in(tmp_path: Path) -> Path:
    path = tmp_path / "archive-wal"
    path.write_text(said()[said().index("#!/bin/sh") :])
    path.chmod(0o755)
    return path


def archive(script: Path, file: Path, name: str = NAME) -> int:
    return subprocess.run(["/bin/sh", str(script), str(file), name], check=False, stderr=subprocess.DEVNULL).returncode


def test_the_lines_name_the_role_and_the_slot_and_no_password(policy: Policy) -> None:
    text = said()
    assert "controlplane_place_pitr" in text and 'ALTER ROLE "keeper" REPLICATION' in text
    assert "a-long-password" not in text


def test_a_server_takes_the_lines(policy: Policy, source: Source) -> None:
    known = {"wal_level", "max_wal_senders", "max_replication_slots", "summarize_wal", "archive_mode",
             "archive_timeout", "archive_command"}  # fmt: skip
    configuration = [line for line in said().splitlines() if line.partition(" = ")[0] in known]
    assert {line.partition(" = ")[0] for line in configuration} == known
    file = source.postgres.folder / "postgresql.conf"
    before = file.read_text()
    try:
        file.write_text(before + "\n".join(configuration) + "\n")
        assert source.ask("SELECT string_agg(name || ': ' || error, ', ') FROM pg_file_settings"
                          " WHERE error <> 'setting could not be applied'") is None  # fmt: skip
    finally:
        file.write_text(before)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the script needs the program zstd")
def test_the_script_archives_once_and_never_replaces(policy: Policy, tmp_path: Path) -> None:
    script = script_in(tmp_path)
    segment, other = tmp_path / "segment", tmp_path / "other"
    segment.write_bytes(b"wal" * 1000)
    other.write_bytes(b"another" * 1000)
    target = tmp_path / "kept here" / "place" / "pitr" / "wal" / "00000001" / f"{NAME}.zst"
    assert archive(script, segment) == 0
    content = target.read_bytes()
    assert archive(script, segment) == 0  # the server was killed before it knew
    assert archive(script, other) != 0
    assert target.read_bytes() == content
    assert archive(script, tmp_path / "missing", NAME[:-1] + "F") != 0
    assert archive(script, other, "00000002.history") == 0
    assert (target.parent.parent / "00000002.history.zst").is_file()
    assert {path.name for path in target.parent.iterdir()} == {target.name}


def test_a_bucket_is_asked_never_to_replace(policy: Policy) -> None:
    settings = {"bucket": "pitchey-backups", "prefix": "a", "region": "eu-west-1"}
    Storage.objects.update(kind="s3", settings=settings)
    text = said()
    assert "--if-none-match '*'" in text and "key=a/place/pitr/wal/$name" in text


def test_only_policies_with_wal_have_any(policy: Policy) -> None:
    Policy.objects.update(kind=Kind.DATABASE)
    with pytest.raises(CommandError, match="only pitr keeps WAL"):
        said()
    with pytest.raises(CommandError, match="no backup policy"):
        said("place/other")
