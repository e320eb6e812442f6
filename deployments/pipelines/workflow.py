"""The guide's GitHub Actions pipeline for one service: test, scan, build, push, and then we are told and asked.

Against the guide's own ("CI/CD Pipeline") three things differ, each for a reason: no key of the cloud is stored, as the
run shows who it is; the image is deployed by its digest, so nothing is ever called "latest"; and instead of telling ECS
itself, the last jobs ask for deployments, which are planned, gated, approved and watched here.
"""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from controlplane.operations.errors import Invalid
from deployments.commits import AT_MOST
from deployments.exporting import Export
from deployments.models import Pipeline
from environments.models import Environment

HEAD = """\
# Made by "manage.py export workflow @SERVICE@"; docs/pipeline.md says what has to be set up once.
# It needs no stored secret: each job that has to shows who it is by its own token (id-token: write).
# Actions are pinned to commits, since a tag can be moved to other code. For a newer one, look at what changed, then
# take the commit of its tag: gh api repos/actions/checkout/commits/v4.2.2 --jq .sha
name: Deploy to Production

on:
  push:
@PUSH@
  workflow_dispatch:

permissions:
  contents: read

concurrency:
  group: deploy-${{ github.ref }}
  cancel-in-progress: false

env:
  CONTROLPLANE_URL: "@URL@"
  SERVICE: "@SERVICE@"
  VERSION: ${{ github.sha }}
  IMAGE: ${{ vars.ECR_REGISTRY }}/@SERVICE@

jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2

      - name: Setup Deno
        uses: denoland/setup-deno@61fe2df320078202e33d7d5ad347e7dcfa0e8f31 # v1.1.2
        with:
          deno-version: v1.x

      - name: Run Tests
        run: deno test --allow-all

  scan:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2

      - name: Setup Deno
        uses: denoland/setup-deno@61fe2df320078202e33d7d5ad347e7dcfa0e8f31 # v1.1.2
        with:
          deno-version: v1.x

      - name: Security Scan
        run: |
          npm audit --omit=dev
          deno lint

  build:
    needs: [test, scan]
    runs-on: ubuntu-latest
@JOB_ENVIRONMENT@    permissions:
      contents: read
      id-token: write
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
        with:
          fetch-depth: @DEPTH@ # as many commits as are reported with the release

      - name: Build Frontend
        run: |
          cd frontend
          npm ci
          npm run build

      - name: Show the Cloud Who We Are
        uses: aws-actions/configure-aws-credentials@e3dd6a429d7300a6a4c196c26e071d42e0343502 # v4.0.2
        with:
          role-to-assume: ${{ vars.AWS_ROLE }}
          aws-region: ${{ vars.AWS_REGION || 'us-east-1' }}

      - name: Log in to the Registry
        run: |
          aws ecr get-login-password | docker login --username AWS --password-stdin "${IMAGE%%/*}"

      - name: Build and Push
        id: push
        run: |
          # A commit is built once: what is run again reports and deploys the image that it was.
          if ! digest=$(docker buildx imagetools inspect "$IMAGE:$VERSION" --format '{{.Manifest.Digest}}'); then
            docker buildx build --push --metadata-file image.json --tag "$IMAGE:$VERSION" .
            digest=$(python3 -c 'import json; print(json.load(open("image.json"))["containerimage.digest"])')
          fi
          echo "digest=$digest" >> "$GITHUB_OUTPUT"

      - name: Scan the Image
        run: |
          docker run --rm -v "$HOME/.docker:/root/.docker:ro" -v "$PWD:/report" aquasec/trivy:0.57.1 \\
            image --format json --output /report/scan.json "$IMAGE@$DIGEST"
        env:
          DIGEST: ${{ steps.push.outputs.digest }}

      - name: Report the Release
        run: |
          python3 .github/deploy --service "$SERVICE" --version "$VERSION" --image "$IMAGE:$VERSION" \\
            --digest "$DIGEST" --commit "$GITHUB_SHA" --ci passed --trivy scan.json@AUDIENCE@
        env:
          DIGEST: ${{ steps.push.outputs.digest }}
"""

DEPLOY = """
  deploy-@ENVIRONMENT@:
    needs: @NEEDS@
    runs-on: ubuntu-latest
@JOB_ENVIRONMENT@    permissions:
      contents: read
      id-token: write
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2

      - name: Deploy to @NAME@ and Wait
        run: |
          python3 .github/deploy --service "$SERVICE" --version "$VERSION" --environment @ENVIRONMENT@ \\
            --reason "$GITHUB_WORKFLOW, run $GITHUB_RUN_ID of $GITHUB_REF_NAME" --wait --timeout 19800@AUDIENCE@
"""


def workflow(pipeline: Pipeline, service: str) -> str:
    """The workflow of one of the pipeline's services, as YAML."""
    there = {one.slug: one for one in Environment.objects.filter(slug__in=pipeline.environments).order_by("position")}
    audience = "" if pipeline.audience == settings.SITE_URL else f' \\\n            --audience "{pipeline.audience}"'
    text = _filled(HEAD, DEPTH=str(AT_MOST), JOB_ENVIRONMENT=_job_environment(pipeline, ""), PUSH=_push(pipeline.refs))
    needs = "build"
    for slug, environment in there.items():
        job = _job_environment(pipeline, slug)
        text += _filled(DEPLOY, ENVIRONMENT=slug, NEEDS=needs, NAME=environment.name, JOB_ENVIRONMENT=job)
        needs = f"deploy-{slug}"
    return _filled(text, URL=settings.SITE_URL, SERVICE=service, AUDIENCE=audience)


def _filled(text: str, **values: str) -> str:
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _push(refs: list[str]) -> str:
    """The branches and tags of the rule, as GitHub filters pushes."""
    lines = []
    for kind, beginning in (("branches", "refs/heads/"), ("tags", "refs/tags/")):
        names = [ref.removeprefix(beginning) for ref in refs if ref.startswith(beginning)]
        if names:
            # Ours ends with one star for everything; in GitHub's patterns two also stand for slashes.
            spelled = ", ".join(f'"{name[:-1]}**"' if name.endswith("*") else f'"{name}"' for name in names)
            lines.append(f"    {kind}: [{spelled}]")
    return "\n".join(lines)


def _job_environment(pipeline: Pipeline, slug: str) -> str:
    """Where the rule asks for jobs in certain environments of GitHub's: one of those."""
    wanted = pipeline.job_environments
    return f'    environment: "{slug if slug in wanted else wanted[0]}"\n' if wanted else ""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("service")
    parser.add_argument("--pipeline", default="", help="the rule, where several are for the service")


def _make(options: dict[str, Any]) -> str:
    rules = Pipeline.objects.filter(services__contains=[options["service"]], may_report=True)
    if options["pipeline"]:
        rules = rules.filter(slug=options["pipeline"])
    rule = rules.first()
    if rule is None:
        words = "Declare one in the section pipelines of the configuration file, and apply it."
        raise Invalid(f"There is no pipeline that may report releases of {options['service']}. {words}")
    return workflow(rule, options["service"])


WORKFLOW = Export("workflow", "the GitHub Actions workflow of a service", _arguments, _make)
