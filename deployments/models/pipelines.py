"""Pipelines that report to us: whom we trust, what they said, and what is to be told back to their commits."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from controlplane.operations.models import Operation
from deployments.models.releases import Release


class Pipeline(models.Model):
    """A trust rule: which workflow runs of which repository may do what. Written by `manage.py apply` only.

    No secret of ours stands in it: tokens are signed by the issuer, and the two secrets that GitHub and we share are
    references.
    """

    slug = models.SlugField(max_length=60, unique=True)
    # Rules are tried in this order; the first one that fits a token is the one.
    position = models.PositiveSmallIntegerField(default=0)
    paused = models.BooleanField(default=False)
    # As whom it acts: holds the roles that the rule gives, and has no password.
    person = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="pipeline")
    issuer = models.CharField(max_length=300)
    audience = models.CharField(max_length=300)
    keys_url = models.CharField(max_length=300)
    repository = models.CharField(max_length=200)
    # Of GitHub, "" for any: a name that was given up may be taken by somebody else, a number may not.
    repository_id = models.CharField(max_length=40, default="", blank=True)
    refs = ArrayField(models.CharField(max_length=200), default=list)
    events = ArrayField(models.CharField(max_length=60), default=list)
    # The issuer's own "environment" claim; none: whatever it says.
    job_environments = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    services = ArrayField(models.CharField(max_length=60), default=list)
    may_report = models.BooleanField(default=True)
    # Where it may ask for deployments; none: nowhere.
    environments = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    # Names of the workflows whose conclusions count for a release; none: all of the repository's.
    workflows = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    webhook_secret = models.CharField(max_length=300, default="", blank=True)
    # How to tell commits what became of them: api, and token or app_id, installation_id, private_key. {}: not at all.
    status = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["position", "slug"]

    def __str__(self) -> str:
        return self.slug


class UsedToken(models.Model):
    """An issuer's token that has changed something: good for that very request and no other. Dropped once expired."""

    issuer = models.CharField(max_length=300)
    jti = models.CharField(max_length=64)  # SHA-256 of the claim, which is the issuer's to choose
    # SHA-256 of method, address, Idempotency-Key and body.
    request = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="used_token_once", fields=["issuer", "jti"])]

    def __str__(self) -> str:
        return f"{self.issuer} {self.jti[:12]}"


class ReleaseReport(models.Model):
    """The workflow run that made a release known, as its token says; people trust it as far as the issuer."""

    release = models.OneToOneField(Release, on_delete=models.CASCADE, primary_key=True, related_name="report")
    pipeline = models.ForeignKey(Pipeline, on_delete=models.PROTECT, related_name="reports")
    repository = models.CharField(max_length=200)
    ref = models.CharField(max_length=300, default="", blank=True)
    sha = models.CharField(max_length=80, default="", blank=True)
    run_id = models.CharField(max_length=40)
    run_attempt = models.CharField(max_length=20, default="", blank=True)
    run_actor = models.CharField(max_length=200, default="", blank=True)
    # How the run said its own checks ended; what other runs say counts beside it.
    ci = models.CharField(max_length=10, choices=Release.CI.choices, default=Release.CI.UNKNOWN, blank=True)
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.repository} run {self.run_id}"

    @property
    def repository_url(self) -> str:
        """The repository's page, "" where the issuer is not GitHub's own."""
        return f"https://github.com/{self.repository}" if "githubusercontent.com" in self.pipeline.issuer else ""

    @property
    def url(self) -> str:
        """The run's page, "" where the issuer is not GitHub's own."""
        return f"{self.repository_url}/actions/runs/{self.run_id}" if self.repository_url else ""


class WebhookDelivery(models.Model):
    """One delivery of a webhook, kept so that it has one effect and one answer. Dropped after some weeks.

    The body is not kept: only what we understood of it, and its digest, by which a copy under another id is known.
    """

    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="deliveries")
    delivery = models.CharField(max_length=100)
    event = models.CharField(max_length=60)
    body_digest = models.CharField(max_length=64)
    answer = models.JSONField(default=dict)
    at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="delivery_once", fields=["pipeline", "delivery"]),
            models.UniqueConstraint(name="delivery_body_once", fields=["pipeline", "event", "body_digest"]),
        ]
        # Read by the page of pipelines: the newest of one.
        indexes = [models.Index(name="delivery_newest", fields=["pipeline", "-id"])]

    def __str__(self) -> str:
        return f"{self.event} {self.delivery}"


class WorkflowRun(models.Model):
    """What a webhook last said of one workflow run; an older word never replaces a newer one."""

    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="runs")
    run_id = models.CharField(max_length=40)
    workflow = models.CharField(max_length=200)
    sha = models.CharField(max_length=80)
    attempt = models.PositiveIntegerField(default=1)
    # The time that the source gives, by which two words about one attempt are ordered.
    said_at = models.DateTimeField()
    ci = models.CharField(max_length=10, choices=Release.CI.choices)
    conclusion = models.CharField(max_length=40, default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="workflow_run_once", fields=["pipeline", "run_id"])]
        # Read when a release of this commit is reported, or another run of it ends.
        indexes = [models.Index(name="workflow_run_commit", fields=["pipeline", "sha"])]

    def __str__(self) -> str:
        return f"{self.workflow} run {self.run_id}"


class CommitNotice(models.Model):
    """What the commit of a deployment is to be told, and what it was told last: one row an operation.

    The clock compares `told` with the state of the operation and tells the difference, so no deployment waits for it,
    and what was overtaken is not told at all.
    """

    operation = models.OneToOneField(Operation, on_delete=models.CASCADE, primary_key=True, related_name="notice")
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="notices")
    sha = models.CharField(max_length=80)
    environment = models.CharField(max_length=60)
    # The number of the deployment on the other side; "" until it is made there.
    remote = models.CharField(max_length=40, default="", blank=True)
    told = models.CharField(max_length=20, default="", blank=True)
    # [{"state": "in_progress", "at": "…"}]: for the page, at most one a state.
    history = models.JSONField(default=list)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(db_default=Now())
    lease_until = models.DateTimeField(null=True, blank=True)
    sender = models.CharField(max_length=40, default="", blank=True)
    error = models.CharField(max_length=500, default="", blank=True)
    # Nothing more is to be told, or it was given up.
    done = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(name="notice_due", fields=["next_at"], condition=models.Q(done=False))]

    def __str__(self) -> str:
        return f"operation {self.operation_id} to {self.sha[:10]}"

    @property
    def words(self) -> str:
        """Whether the commit was told, as people read it."""
        told = f"told it is {self.told.replace('_', ' ')}" if self.told else "not told yet"
        return f"{told}; {'given up' if self.done else 'trying again'}: {self.error}" if self.error else told
