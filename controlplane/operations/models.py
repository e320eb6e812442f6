"""Operations, their steps, approvals, locks and events. No column knows a kind of operation."""

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from controlplane.audit.record import MACHINE
from controlplane.operations.states import ACTIVE, EXECUTING, FINISHED, State, StepState


class Operation(models.Model):
    """A frozen list of steps, perhaps approved first, run against one or more scopes, with live output."""

    kind = models.CharField(max_length=60)
    title = models.CharField(max_length=300)
    scopes = ArrayField(models.CharField(max_length=60))
    # What no two operations may hold at once: the scopes, or something narrower (a backup changes no environment).
    lock_names = ArrayField(models.CharField(max_length=200))
    state = models.CharField(max_length=20, choices=State.choices)
    reason = models.TextField()

    plan = models.JSONField()
    plan_digest = models.CharField(max_length=64)
    # The gates as they stood when it was requested; at the start they are asked again.
    gates = models.JSONField(default=list)
    approvals_required = models.PositiveSmallIntegerField(default=0)
    # Of whom some have to be among those who approve: [{"name": "SRE", "people": ["bob"], "count": 1}].
    approver_groups = models.JSONField(default=list, blank=True)
    approver_role = models.CharField(max_length=20, default="approver")
    approval_deadline = models.DateTimeField(null=True)

    # The name stays when the person is deleted.
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    requested_by_name = models.CharField(max_length=200)
    requested_at = models.DateTimeField(db_default=Now())
    # The operation that asked for it on its way and waits for its end.
    part_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+")
    scheduled_for = models.DateTimeField(null=True)
    # If it has not started by then, it never will.
    start_by = models.DateTimeField(null=True)
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expected_seconds = models.FloatField(null=True)

    cancel_requested_by_name = models.CharField(max_length=200, default="", blank=True)
    cancel_reason = models.TextField(default="", blank=True)
    # Why it waits, or why it ended as it did, in words.
    outcome = models.TextField(default="", blank=True)

    # The lease: who runs it, until when, and the fence every write of that worker must name.
    worker = models.CharField(max_length=120, default="", blank=True)
    lease_until = models.DateTimeField(null=True)
    fence = models.BigIntegerField(default=0)
    rung_at = models.DateTimeField(null=True)
    # Since when it stands at a safe point because the world is stopped (`world.py`): no worker, no lease.
    paused_at = models.DateTimeField(null=True)
    # Since when it waits in the queue for a gate; until the gate opens, others may pass it.
    gate_pending_since = models.DateTimeField(null=True)
    # Until when others in the background wait for its start to be checked: it may be broken, or its worker may die.
    turn_until = models.DateTimeField(null=True)

    last_seq = models.BigIntegerField(default=0)
    search = models.GeneratedField(
        expression=SearchVector("title", "reason", "requested_by_name", config="simple"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        constraints = [
            models.CheckConstraint(name="operation_state_known", condition=models.Q(state__in=State.values)),
            models.CheckConstraint(
                name="operation_finished_has_a_time",
                condition=models.Q(state__in=sorted(FINISHED), finished_at__isnull=False)
                | models.Q(state__in=sorted(ACTIVE), finished_at__isnull=True),
            ),
            models.CheckConstraint(name="operation_has_a_scope", condition=~models.Q(scopes=[])),
        ]
        indexes = [
            # Read by the board, the inbox and the clock: only the few that are not finished.
            models.Index(name="operation_active", fields=["state", "id"], condition=models.Q(state__in=sorted(ACTIVE))),
            # Read by the clock, to find what lost its worker.
            models.Index(
                name="operation_lease", fields=["lease_until"], condition=models.Q(state__in=sorted(EXECUTING))
            ),
            models.Index(name="operation_kind_state", fields=["kind", "state", "-id"]),
            # Read at each start: did anything end here since we looked?
            models.Index(
                name="operation_ended", fields=["-finished_at"], condition=models.Q(finished_at__isnull=False)
            ),
            GinIndex(name="operation_search", fields=["search"]),
            GinIndex(name="operation_scopes", fields=["scopes"]),
        ]

    def __str__(self) -> str:
        return f"operation {self.pk}: {self.title}"

    def get_absolute_url(self) -> str:
        """The operation's page."""
        return reverse("operation", args=[self.pk])

    @property
    def is_by_machine(self) -> bool:
        """Whether a process of ours asked for it. Of a person who was deleted only the name is left, too."""
        return self.requested_by_id is None and self.requested_by_name.startswith(MACHINE)

    @property
    def is_finished(self) -> bool:
        """No worker and no person will change it any more."""
        return self.state in FINISHED


class Step(models.Model):
    """One step of an operation's plan and what became of it."""

    class Phase(models.TextChoices):
        MAIN = "main", "step"
        RECOVERY = "recovery", "puts back"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField()
    key = models.CharField(max_length=120)
    phase = models.CharField(max_length=10, choices=Phase.choices, default=Phase.MAIN)
    state = models.CharField(max_length=12, choices=StepState.choices, default=StepState.PENDING)
    attempt = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    deadline = models.DateTimeField(null=True)
    # What the step noted on its way, so that a second worker need not begin again.
    checkpoint = models.JSONField(default=dict)
    progress_done = models.BigIntegerField(null=True)
    progress_total = models.BigIntegerField(null=True)
    progress_unit = models.CharField(max_length=20, default="", blank=True)
    error = models.TextField(default="", blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(name="step_key_once", fields=["operation", "key"]),
            models.UniqueConstraint(name="step_position_once", fields=["operation", "position"]),
            models.CheckConstraint(name="step_state_known", condition=models.Q(state__in=StepState.values)),
        ]

    def __str__(self) -> str:
        return f"{self.operation_id}/{self.key}"

    @property
    def is_safe_point(self) -> bool:
        """Whether the operation may stop before it: not once it was tried, since its effect may have come about."""
        return self.state == StepState.PENDING and self.attempt == 0 and bool(self.spec["safe_point"])

    @property
    def spec(self) -> dict[str, Any]:
        """The step as it was planned and approved."""
        plan = self.operation.plan
        specs: list[dict[str, Any]] = plan["steps"] + plan["recovery"]
        return specs[self.position]


class Approval(models.Model):
    """One person's word on one digest. A plan that changes makes it void, by not being equal."""

    class Decision(models.TextChoices):
        APPROVED = "approved", "approved"
        REJECTED = "rejected", "rejected"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="approvals")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    person_name = models.CharField(max_length=200)
    decision = models.CharField(max_length=10, choices=Decision.choices)
    plan_digest = models.CharField(max_length=64)
    comment = models.TextField(default="", blank=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["at"]
        constraints = [models.UniqueConstraint(name="approval_once_each", fields=["operation", "person"])]

    def __str__(self) -> str:
        return f"{self.person_name} {self.decision} {self.operation_id}"


class OperationLock(models.Model):
    """The right of one operation to change one thing, an environment mostly. It never outlives its operation."""

    name = models.CharField(max_length=200, unique=True)
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="locks")
    taken_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.name} by operation {self.operation_id}"


class Event(models.Model):
    """One line of an operation's story: log lines and state changes in one gapless sequence."""

    class Kind(models.TextChoices):
        LINE = "line", "line"
        WARNING = "warning", "warning"
        ERROR = "error", "error"
        STEP = "step", "step"
        STATE = "state", "state"

    pk = models.CompositePrimaryKey("operation_id", "seq")
    # No constraint and no index of its own: an event is only ever written in the transaction that counts it in
    # its operation's row (`events.append`), and the primary key begins with the operation.
    operation = models.ForeignKey(
        Operation, on_delete=models.CASCADE, related_name="events", db_constraint=False, db_index=False
    )
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    kind = models.CharField(max_length=8, choices=Kind.choices)
    step = models.CharField(max_length=120, default="", blank=True)
    text = models.TextField()

    def __str__(self) -> str:
        return f"{self.operation_id}#{self.seq} {self.text}"


class Effect(models.Model):
    """One change that a step made in the world, as its driver tells it: what the plan is compared with afterwards.

    what: a verb of the driver ("started", "deregistered"). subject: the one thing changed ("production-1").
    """

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="effects")
    step = models.CharField(max_length=120)
    at = models.DateTimeField(db_default=Now())
    what = models.CharField(max_length=60)
    subject = models.CharField(max_length=300)
    facts = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.operation_id}: {self.what} {self.subject}"


class Deed(models.Model):
    """What an operation did, compared with its plan when it ended (`deeds.py`)."""

    class End(models.TextChoices):
        NOBODY_KNOWS = "nobody_knows", "not asked"  # it did not succeed, or its kind cannot tell
        DUE = "due", "is being asked"
        AS_PLANNED = "as_planned", "as planned"
        DIFFERS = "differs", "differs"
        OVERTAKEN = "overtaken", "changed again before it was asked"
        UNHEARD = "unheard", "could not be asked"

    operation = models.OneToOneField(Operation, on_delete=models.CASCADE, related_name="deed")
    at = models.DateTimeField(db_default=Now())
    effects = models.PositiveIntegerField()
    # Effects that no step of the plan explains, in words.
    differences = models.JSONField(default=list, blank=True)
    # Whether there is now what the plan promised: asked once, after the end.
    end = models.CharField(max_length=16, choices=End.choices, default=End.NOBODY_KNOWS)
    end_differences = models.JSONField(default=list, blank=True)
    ask_at = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0)

    class Meta:
        indexes = [
            # Read by the clock, to ask what is due.
            models.Index(name="deed_due", fields=["ask_at"], condition=models.Q(end="due")),
        ]

    def __str__(self) -> str:
        return f"deed of operation {self.operation_id}"

    @property
    def is_explained(self) -> bool:
        """Nothing differs, as far as was asked."""
        return not self.differences and not self.end_differences


class Halt(models.Model):
    """The world stopped: somebody's word that nothing starts and everything waits at its next safe point."""

    reason = models.TextField()
    by_name = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())
    released_by_name = models.CharField(max_length=200, default="", blank=True)
    released_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(models.Value(1), name="halt_once_at_a_time", condition=models.Q(released_at=None)),
        ]

    def __str__(self) -> str:
        return f"stopped by {self.by_name}: {self.reason}"


class Bypass(models.Model):
    """A rule that people set aside for a while (break-glass), to be reviewed by somebody who took no part.

    key: of whatever it was, unique ("incident glass 7"). what: in words. people: who took part, by number.
    """

    key = models.CharField(max_length=120, unique=True)
    what = models.CharField(max_length=300)
    url = models.CharField(max_length=300, default="", blank=True)
    scopes = ArrayField(models.CharField(max_length=60))
    reason = models.TextField()
    people = ArrayField(models.BigIntegerField())
    people_names = ArrayField(models.CharField(max_length=200))
    at = models.DateTimeField(db_default=Now())
    # Until when the rule is set aside.
    until = models.DateTimeField()
    reviewed_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    reviewed_by_name = models.CharField(max_length=200, default="", blank=True)
    reviewed_at = models.DateTimeField(null=True)
    review = models.TextField(default="", blank=True)

    class Meta:
        indexes = [models.Index(name="bypass_unreviewed", fields=["at"], condition=models.Q(reviewed_at=None))]

    def __str__(self) -> str:
        return self.what


class IdempotencyKey(models.Model):
    """The first answer to a request with an Idempotency-Key; see `idempotency.py`. Dropped after a day."""

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    # SHA-256 of method, address and body: the same key with another request is a mistake.
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    answer = models.TextField(default="", blank=True)
    # Read by the clock, to drop the old ones.
    at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="idempotency_key_once", fields=["person", "key"])]

    def __str__(self) -> str:
        return f"{self.key} of {self.person_id}: {self.status}"
