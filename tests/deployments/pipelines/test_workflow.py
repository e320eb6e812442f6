"""The exported workflow is the guide's pipeline: its parts, in its order, and no stored secret of anybody's."""

import os
import re
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from deployments.commits import AT_MOST
from deployments.models import Pipeline
from tests.deployments.pipelines.conftest import make_rule
from tests.estate import Estate

# What the guide's workflow does ("CI/CD Pipeline"), and by which job and words ours does it.
GUIDE = [
    ("test", "Setup Deno", "denoland/setup-deno"),
    ("test", "Run Tests", "deno test --allow-all"),
    ("scan", "Security Scan", "npm audit"),
    ("scan", "Security Scan", "deno lint"),
    ("build", "Build Frontend", "cd frontend\nnpm ci\nnpm run build"),
    ("build", "Build and Push", "docker buildx build --push"),
    ("build", "Log in to the Registry", "aws ecr get-login-password"),
    ("deploy-production", "Deploy to Production and Wait", "--environment production"),
    ("deploy-production", "Deploy to Production and Wait", "--wait"),
]


def exported(*more: str) -> str:
    out = StringIO()
    call_command("export", "workflow", *(more or ("api",)), stdout=out)
    return out.getvalue()


@pytest.fixture
def rule(estate: Estate, settings: Any) -> Pipeline:
    settings.SITE_URL = "https://control.pitchey.example"
    return make_rule("https://token.actions.githubusercontent.com")


@pytest.fixture
def parsed(rule: Pipeline) -> dict[str, Any]:
    # YAML 1.1 reads the key "on" as true.
    read: dict[Any, Any] = yaml.safe_load(exported())
    return {("on" if key is True else key): value for key, value in read.items()}


def runs(job: dict[str, Any], name: str = "") -> str:
    """What the steps run, those of one name."""
    return "\n".join(
        step.get("run", step.get("uses", "")) for step in job["steps"] if name in ("", step.get("name", ""))
    )


@pytest.mark.parametrize(("job", "name", "words"), GUIDE)
def test_it_has_the_parts_of_the_guide(parsed: dict[str, Any], job: str, name: str, words: str) -> None:
    assert words in runs(parsed["jobs"][job], name)


def test_name_and_triggers_are_the_guide_s(parsed: dict[str, Any]) -> None:
    assert parsed["name"] == "Deploy to Production"
    assert parsed["on"] == {"push": {"branches": ["main"], "tags": ["v**"]}, "workflow_dispatch": None}


def test_the_order_is_test_scan_build_report_and_environment_after_environment(parsed: dict[str, Any]) -> None:
    jobs = parsed["jobs"]
    assert list(jobs) == ["test", "scan", "build", "deploy-staging", "deploy-production"]
    assert (jobs["build"]["needs"], jobs["deploy-staging"]["needs"]) == (["test", "scan"], "build")
    assert jobs["deploy-production"]["needs"] == "deploy-staging"
    names = [step.get("name") for step in jobs["build"]["steps"]]
    assert names.index("Build and Push") < names.index("Scan the Image") < names.index("Report the Release")


def test_the_image_goes_by_its_digest(parsed: dict[str, Any]) -> None:
    reported = runs(parsed["jobs"]["build"], "Report the Release")
    assert '--digest "$DIGEST"' in reported and "--ci passed" in reported and "--trivy scan.json" in reported
    assert ":latest" not in exported()


def test_the_job_that_reports_has_as_much_history_as_is_reported(parsed: dict[str, Any]) -> None:
    checkout = parsed["jobs"]["build"]["steps"][0]
    assert checkout["uses"].startswith("actions/checkout@")
    assert checkout["with"] == {"fetch-depth": AT_MOST}
    assert '--commit "$GITHUB_SHA"' in runs(parsed["jobs"]["build"], "Report the Release")


def test_no_stored_secret(parsed: dict[str, Any]) -> None:
    text = exported()
    assert "secrets." not in text
    assert not re.search(r"CONTROLPLANE_TOKEN|AWS_SECRET|AWS_ACCESS_KEY", text)
    assert parsed["permissions"] == {"contents": "read"}
    may = {name: job.get("permissions", {}).get("id-token") for name, job in parsed["jobs"].items()}
    assert may == {
        "test": None,
        "scan": None,
        "build": "write",
        "deploy-staging": "write",
        "deploy-production": "write",
    }


def test_no_text_of_anybody_s_becomes_a_command(parsed: dict[str, Any]) -> None:
    """GitHub fills ${{ }} in before the shell reads it: a branch's name could be one."""
    assert not [job for job in parsed["jobs"].values() if "${{" in runs(job)]


def test_an_audience_and_environments_of_the_rule(rule: Pipeline) -> None:
    assert "--audience" not in exported()
    Pipeline.objects.update(audience="other", job_environments=["release", "production"], environments=["production"])
    jobs = yaml.safe_load(exported())["jobs"]
    assert list(jobs) == ["test", "scan", "build", "deploy-production"]
    assert (jobs["build"]["environment"], jobs["deploy-production"]["environment"]) == ("release", "production")
    assert '--audience "other"' in runs(jobs["build"]) and '--audience "other"' in runs(jobs["deploy-production"])


def test_a_service_without_a_pipeline(rule: Pipeline) -> None:
    with pytest.raises(CommandError, match="no pipeline that may report releases of web"):
        exported("web")
    with pytest.raises(CommandError, match="no pipeline"):
        exported("api", "--pipeline", "other")


def test_actions_are_pinned_to_commits_with_their_version_beside_them(rule: Pipeline) -> None:
    used = re.findall(r"uses: (.*)", exported())
    assert used
    for one in used:
        assert re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one


REGISTRY = """#!/bin/sh
echo "$2" "$3" >> "$LOG"
case "$2" in
    imagetools) cat "$LOG.pushed" 2>/dev/null ;;
    *) echo sha256:first > "$LOG.pushed"; echo '{"containerimage.digest": "sha256:first"}' > image.json ;;
esac
"""


def test_a_commit_is_built_once_and_what_is_run_again_takes_the_image_that_is_there(
    parsed: dict[str, Any], tmp_path: Path
) -> None:
    script = runs(parsed["jobs"]["build"], "Build and Push")
    docker = tmp_path / "docker"
    docker.write_text(REGISTRY)
    docker.chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "IMAGE": "registry/api", "VERSION": "a" * 40,
        "LOG": str(tmp_path / "log"), "GITHUB_OUTPUT": str(tmp_path / "output"),
    }  # fmt: skip
    for _ in range(2):
        subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "output").read_text() == "digest=sha256:first\n" * 2
    assert (tmp_path / "log").read_text().splitlines() == ["imagetools inspect", "build --push", "imagetools inspect"]
