"""What GitHub tells us: each delivery is checked, has one effect, and always gets the same answer.

1. Who? The HMAC-SHA256 of the body, with the secret that GitHub and we share (X-Hub-Signature-256).
2. Is it one of before? By its number, and by its body: the number is not signed, so a copy may come under another one.
3. Is it of this repository, and not older than deliveries are remembered, where it says a time?
4. What does it say? A workflow run that began or ended brings the checks of its commit's releases up to date.
   A push and a published package are taken note of.

Steps 2 to 4 are one transaction, and it is answered only after the commit.
"""

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from controlplane.accounts.programs import CannotTell
from controlplane.audit.record import Who
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid, StepError
from deployments.models import Pipeline, Release, WebhookDelivery, WorkflowRun
from deployments.pipelines.checks import hold, settle
from environments.secrets import RememberedSecrets

logger = logging.getLogger(__name__)

# GitHub sends a delivery again for three days. What is older than deliveries are remembered is not taken at all.
REMEMBERED = timedelta(days=14)
OLDEST = timedelta(days=7)
AHEAD = timedelta(minutes=10)
LAST_SECOND = 253_402_300_799  # of the year 9999
ENDED_WELL = frozenset({"success", "neutral"})
WITHOUT_A_WORD = frozenset({"skipped"})


@dataclass(frozen=True)
class Delivery:
    """What came. number, event: as its headers say, which nobody signed."""

    number: str
    event: str
    body: bytes

    @property
    def digest(self) -> str:
        """Of the body."""
        return hashlib.sha256(self.body).hexdigest()


_secrets = RememberedSecrets()


def is_signed(pipeline: Pipeline, body: bytes, given: str) -> bool:
    """Whether "sha256=HEX" is the HMAC of the body with the pipeline's secret. Raises CannotTell."""
    try:
        secret = _secrets.get(pipeline.webhook_secret).encode()
    except StepError:
        words = "The signature cannot be checked now, as its secret cannot be read; our log says why."
        raise CannotTell(words) from None
    wanted = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), given.strip().encode())


def take(pipeline: Pipeline, delivery: Delivery) -> dict[str, Any]:
    """Bring its effect about, once; returns the answer. Raises Invalid, Conflict (the number is another's)."""
    told = _told(delivery.body)
    with transaction.atomic():
        hold(pipeline)
        if known := _known(pipeline, delivery):
            return known
        _check(pipeline, told)
        handle = HANDLERS.get(delivery.event, _unheard)
        said, releases = handle(pipeline, told)
        answer = {"event": delivery.event, "said": said, "releases": [str(release) for release in releases]}
        WebhookDelivery.objects.create(
            pipeline=pipeline, delivery=delivery.number, event=delivery.event, body_digest=delivery.digest,
            answer=answer,
        )  # fmt: skip
        transaction.on_commit(lambda: ring("news", "releases"))
    return answer


def _told(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise Invalid("The body is not JSON in UTF-8.") from error
    if not isinstance(told, dict):
        raise Invalid("The body has to be a JSON object.")
    return told


def _known(pipeline: Pipeline, delivery: Delivery) -> dict[str, Any] | None:
    """The answer of before, if there is one."""
    rows = WebhookDelivery.objects.filter(pipeline=pipeline)
    same = rows.filter(delivery=delivery.number).first()
    if same is not None and (same.body_digest, same.event) != (delivery.digest, delivery.event):
        raise Conflict("A delivery of this number came before with something else in it. It was not taken.")
    same = same or rows.filter(event=delivery.event, body_digest=delivery.digest).first()
    return dict(same.answer) if same else None


def _check(pipeline: Pipeline, told: Mapping[str, Any]) -> None:
    name = _text(_below(told, "repository"), "full_name")
    if name.lower() != pipeline.repository.lower():
        raise Invalid(f"The pipeline {pipeline.slug} is for {pipeline.repository}, and this is of another repository.")
    at = _moment(told)
    if at is None:
        return
    now = database_time()
    if at < now - OLDEST or at > now + AHEAD:
        raise Invalid(f"It tells of {at:%Y-%m-%d %H:%M} UTC, which is too long ago, or to come. It was not taken.")


def _moment(told: Mapping[str, Any]) -> datetime | None:
    """When what it tells happened; None where it does not say."""
    run, package = _below(told, "workflow_run"), _below(told, "registry_package") or _below(told, "package")
    for text in (run.get("updated_at"), package.get("updated_at")):
        if isinstance(text, str) and text:
            return _time(text)
    # Of a push, when it was pushed: its commits may be old, by whatever clock.
    pushed_at = _below(told, "repository").get("pushed_at") if "pusher" in told else None
    return datetime.fromtimestamp(pushed_at, UTC) if type(pushed_at) is int and 0 <= pushed_at < LAST_SECOND else None


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid("It has a time that cannot be read.") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# --- What they say --------------------------------------------------------------------------------------

Said = tuple[str, list[Release]]


def _workflow_run(pipeline: Pipeline, told: Mapping[str, Any]) -> Said:
    run = _below(told, "workflow_run")
    name, run_id, sha = (_text(run, key, needed=True) for key in ("name", "id", "head_sha"))
    conclusion, attempt = _text(run, "conclusion"), run.get("run_attempt", 1)
    if len(run_id) > 40 or len(sha) > 80 or len(conclusion) > 40:
        raise Invalid("The run's number, commit or conclusion is longer than any.")
    # null once a copy was deleted.
    origin = _text(_below(run, "head_repository"), "full_name")
    if origin.lower() != pipeline.repository.lower():
        return "a run of somebody's copy of the repository; it counts for nothing", []
    if isinstance(attempt, bool) or not isinstance(attempt, int) or not 0 < attempt < 2**31:
        raise Invalid("The run's attempt is no number.")
    said_at = _time(_text(run, "updated_at", needed=True))
    before = WorkflowRun.objects.filter(pipeline=pipeline, run_id=run_id).first()
    newer = before is None or (attempt, said_at, bool(conclusion)) > (before.attempt, before.said_at, _ended(before))
    if not newer:
        return f"{name} run {run_id}: something newer is known already", []
    WorkflowRun.objects.update_or_create(
        pipeline=pipeline, run_id=run_id,
        defaults={"workflow": name, "sha": sha, "attempt": attempt, "said_at": said_at, "conclusion": conclusion,
                  "ci": _ci(conclusion)},
    )  # fmt: skip
    who = Who(f"{pipeline.repository} webhook", None, f"pipeline {pipeline.slug} webhook")
    changed = settle(who, pipeline, sha)
    return f"{name} run {run_id} of {sha[:10]}: {conclusion or 'not ended yet'}", changed


def _ended(run: WorkflowRun) -> bool:
    return run.conclusion != ""


def _ci(conclusion: str) -> str:
    if not conclusion:
        return Release.CI.PENDING
    if conclusion in WITHOUT_A_WORD:
        return Release.CI.UNKNOWN
    return Release.CI.PASSED if conclusion in ENDED_WELL else Release.CI.FAILED


def _push(pipeline: Pipeline, told: Mapping[str, Any]) -> Said:
    ref, sha = _text(told, "ref", needed=True), _text(told, "after")
    return f"{ref} is at {sha[:10]} now", []


def _package(pipeline: Pipeline, told: Mapping[str, Any]) -> Said:
    package = _below(told, "registry_package") or _below(told, "package")
    version = _below(package, "package_version")
    tag = _below(_below(version, "container_metadata"), "tag")
    digest = _text(tag, "digest") or _text(version, "version")
    releases = list(
        Release.objects.filter(service__slug__in=pipeline.services, digest=digest).select_related("service")
    )
    known = "of a release that is known" if releases else "of no release that is known yet"
    return f"{_text(package, 'name') or 'a package'} {digest[:19]} was published, {known}", releases


def _ping(pipeline: Pipeline, told: Mapping[str, Any]) -> Said:
    return f"the pipeline {pipeline.slug} hears you", []


def _unheard(pipeline: Pipeline, told: Mapping[str, Any]) -> Said:
    return f"nothing is made of this event; there are {', '.join(sorted(HANDLERS))}", []


HANDLERS: dict[str, Callable[[Pipeline, Mapping[str, Any]], Said]] = {
    "ping": _ping,
    "push": _push,
    "workflow_run": _workflow_run,
    "registry_package": _package,
    "package": _package,
}


def _below(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name)
    return value if isinstance(value, dict) else {}


def _text(told: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    value = told.get(name)
    text = "" if value is None else str(value)
    if "\0" in text or not text.isprintable() or isinstance(value, dict | list) or (needed and not text):
        raise Invalid(f"It does not say {name} as GitHub does.")
    return text[:200]


def forget_old() -> int:
    """Drop deliveries that nothing can repeat any more; returns how many (the clock calls it)."""
    return WebhookDelivery.objects.filter(at__lt=Now() - REMEMBERED).delete()[0]
