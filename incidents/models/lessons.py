"""What is learned: post-mortems in versions, and the action items that come of them."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse

from incidents.models.incidents import Incident


class Postmortem(models.Model):
    """The document of one incident. Its text is in versions; the last one counts."""

    class State(models.TextChoices):
        DRAFT = "draft", "draft"
        REVIEW = "review", "in review"
        PUBLISHED = "published", "published"

    incident = models.OneToOneField(Incident, on_delete=models.CASCADE, related_name="postmortem")
    state = models.CharField(max_length=10, choices=State.choices, default=State.DRAFT)
    version = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    published_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"post-mortem of incident {self.incident_id}"

    def get_absolute_url(self) -> str:
        """The post-mortem's page."""
        return reverse("postmortem", args=[self.incident_id])


class PostmortemVersion(models.Model):
    """One state of the text, Markdown; "[#12]" cites an entry of the timeline. Never changed."""

    postmortem = models.ForeignKey(Postmortem, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    body = models.TextField()
    # None: the system, or somebody who was deleted; the name stays.
    author = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")
    author_name = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(name="postmortem_version_once", fields=["postmortem", "number"])]

    def __str__(self) -> str:
        return f"{self.postmortem} v{self.number}"


class Review(models.Model):
    """One reviewer's word on a version. state: asked, approved, or wants changes."""

    class State(models.TextChoices):
        ASKED = "asked", "asked"
        APPROVED = "approved", "approved"
        CHANGES = "changes", "wants changes"

    postmortem = models.ForeignKey(Postmortem, on_delete=models.CASCADE, related_name="reviews")
    person = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")
    person_name = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ASKED)
    version = models.PositiveIntegerField(default=0)  # the one the word is about
    comment = models.TextField(default="", blank=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(name="review_once_each", fields=["postmortem", "person"])]

    def __str__(self) -> str:
        return f"{self.person_name}: {self.state}"


class ActionItem(models.Model):
    """What is to be done so that it does not happen again: by whom, until when, and how one will know."""

    class State(models.TextChoices):
        OPEN = "open", "open"
        DONE = "done", "done"
        VERIFIED = "verified", "verified"  # by somebody other than the owner
        DROPPED = "dropped", "dropped"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="action_items")
    title = models.CharField(max_length=300)
    verification = models.CharField(max_length=300, default="", blank=True)  # how one will know that it worked
    owner = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")
    owner_name = models.CharField(max_length=200)
    due_on = models.DateField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    settled_at = models.DateTimeField(null=True)
    settled_by_name = models.CharField(max_length=200, default="", blank=True)
    words = models.TextField(default="", blank=True)  # the evidence, or why it was dropped
    verified_at = models.DateTimeField(null=True)
    verified_by_name = models.CharField(max_length=200, default="", blank=True)
    verified_words = models.TextField(default="", blank=True)
    # When its owner, and then those above, were told that it is overdue.
    reminded_at = models.DateTimeField(null=True)
    reminders = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["due_on", "id"]
        indexes = [
            # Read by the clock, the board and the list: only those still to be done.
            models.Index(name="action_item_open", fields=["due_on"], condition=Q(state="open")),
            # Read by the list: those that wait for somebody to verify them.
            models.Index(name="action_item_done", fields=["-id"], condition=Q(state="done")),
        ]

    def __str__(self) -> str:
        return self.title
