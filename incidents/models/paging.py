"""The escalation matrix, the levels of running escalations, pages, and the outbox through which they leave."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from incidents.models.incidents import Incident


class ChannelKind(models.TextChoices):
    """By what people are reached; one file each in `incidents/channels/`."""

    PAGERDUTY = "pagerduty", "PagerDuty"
    SLACK = "slack", "Slack"
    EMAIL = "email", "e-mail"
    PHONE = "phone", "phone"
    SMS = "sms", "SMS"
    WEBHOOK = "webhook", "webhook"


class Channel(models.Model):
    """A way out, as it is configured: settings as its kind wants them; secrets only as references."""

    kind = models.CharField(max_length=12, choices=ChannelKind.choices, unique=True)
    settings = models.JSONField(default=dict)
    paused = models.BooleanField(default=False)

    class Meta:
        ordering = ["kind"]

    def __str__(self) -> str:
        return self.kind


class ContactMethod(models.Model):
    """How one person is reached: a telephone number, an address, a user of a chat."""

    person = models.ForeignKey("accounts.Person", on_delete=models.CASCADE, related_name="contact_methods")
    kind = models.CharField(max_length=12, choices=ChannelKind.choices)
    address = models.CharField(max_length=300)

    class Meta:
        ordering = ["person", "kind"]
        constraints = [models.UniqueConstraint(name="contact_method_once", fields=["person", "kind"])]

    def __str__(self) -> str:
        return f"{self.person} by {self.kind}"


class EscalationPolicy(models.Model):
    """An escalation matrix, for some severities."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)
    severities = ArrayField(models.CharField(max_length=2), default=list)
    # How often all levels are gone through again when nobody acknowledges, and how long after the last level.
    repeats = models.PositiveSmallIntegerField(default=0)
    repeat_after_seconds = models.PositiveIntegerField(default=1800)

    class Meta:
        ordering = ["slug"]
        verbose_name_plural = "escalation policies"

    def __str__(self) -> str:
        return self.name


class EscalationLevel(models.Model):
    """A row of the matrix: L1 is the on-call engineer at once, by PagerDuty.

    targets: [{"schedule": "primary"}] or [{"person": "carol"}]. channels: in the order in which they are tried.
    """

    policy = models.ForeignKey(EscalationPolicy, on_delete=models.CASCADE, related_name="levels")
    number = models.PositiveSmallIntegerField()
    role = models.CharField(max_length=100)
    after_seconds = models.PositiveIntegerField()  # since the opening of the incident, never since the level before
    targets = models.JSONField(default=list)
    channels = ArrayField(models.CharField(max_length=12), default=list)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(name="escalation_level_once", fields=["policy", "number"])]

    def __str__(self) -> str:
        return f"L{self.number} {self.role}"


class Level(models.Model):
    """One level of one running escalation, with its absolute due time."""

    class State(models.TextChoices):
        PENDING = "pending", "pending"
        FIRED = "fired", "paged"
        PASSED = "passed", "passed over"  # after an outage a higher one went instead
        SKIPPED = "skipped", "skipped"
        CANCELLED = "cancelled", "cancelled"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="levels")
    round = models.PositiveSmallIntegerField(default=1)
    number = models.PositiveSmallIntegerField()
    role = models.CharField(max_length=100)
    targets = models.JSONField(default=list)
    channels = ArrayField(models.CharField(max_length=12), default=list)
    due_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    settled_at = models.DateTimeField(null=True)  # when it stopped being pending
    words = models.CharField(max_length=300, default="", blank=True)

    class Meta:
        ordering = ["due_at", "round", "number"]
        constraints = [models.UniqueConstraint(name="level_once", fields=["incident", "round", "number"])]
        indexes = [
            # Read by the clock: only those still to come.
            models.Index(name="level_due", fields=["due_at"], condition=Q(state="pending"))
        ]

    def __str__(self) -> str:
        return f"L{self.number} of incident {self.incident_id}"


class Page(models.Model):
    """One person who is to be reached because of one level. Its deliveries are the tries, one channel after another.

    ways: [{"channel": "pagerduty", "address": "…"}] in the order of trying; `way` is the one being tried.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        ACCEPTED = "accepted", "accepted"  # by a provider
        DELIVERED = "delivered", "delivered"
        SEEN = "seen", "seen"
        FAILED = "failed", "reached nobody"  # no way is left
        CANCELLED = "cancelled", "not needed any more"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="pages")
    level = models.ForeignKey(Level, null=True, on_delete=models.CASCADE, related_name="pages")
    person = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")
    person_name = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    ways = models.JSONField(default=list)
    way = models.PositiveSmallIntegerField(default=0)
    queued_at = models.DateTimeField(db_default=Now())
    # When the next channel is tried unless a receipt comes first; None: nothing more to try, or it came.
    next_way_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="page_once", fields=["level", "person"])]
        indexes = [
            models.Index(name="page_next_way", fields=["next_way_at"], condition=Q(next_way_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"page to {self.person_name}"


class Delivery(models.Model):
    """One row of the outbox: one message to one provider. `key` goes with it, so that a repeat does no harm."""

    class Purpose(models.TextChoices):
        PAGE = "page", "page"  # never leaves after the acknowledgement
        NOTICE = "notice", "notice"  # to a channel many people read
        ACKNOWLEDGE = "acknowledge", "acknowledge"
        RESOLVE = "resolve", "resolve"

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        SENDING = "sending", "sending"
        ACCEPTED = "accepted", "accepted"
        DELIVERED = "delivered", "delivered"
        SEEN = "seen", "seen"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    incident = models.ForeignKey(Incident, null=True, on_delete=models.CASCADE, related_name="deliveries")
    page = models.ForeignKey(Page, null=True, on_delete=models.CASCADE, related_name="deliveries")
    purpose = models.CharField(max_length=12, choices=Purpose.choices)
    channel = models.CharField(max_length=12, choices=ChannelKind.choices)
    address = models.CharField(max_length=300, default="", blank=True)
    # The idempotency key: the same for every try of this effect.
    key = models.CharField(max_length=100, unique=True)
    # What channels make their message of: {"title", "text", "severity", "url", "ack_url"}; no secret in it.
    message = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, db_default=Now())  # None: it will not be tried any more
    give_up_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    sender = models.CharField(max_length=120, default="", blank=True)
    provider_id = models.CharField(max_length=200, default="", blank=True)
    error = models.CharField(max_length=500, default="", blank=True)
    permanent = models.BooleanField(default=False)  # of the error: trying again is of no use
    queued_at = models.DateTimeField(db_default=Now())
    accepted_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [
            # Read by the senders, each for its channel.
            models.Index(
                name="delivery_due", fields=["channel", "next_at"], condition=Q(state__in=["queued", "sending"])
            ),
            # Read when a receipt comes in.
            models.Index(name="delivery_provider", fields=["channel", "provider_id"], condition=~Q(provider_id="")),
            models.Index(name="delivery_incident", fields=["incident", "-id"]),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} by {self.channel}"
