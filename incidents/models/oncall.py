"""Who is on call when: schedules of layers, and what stands above them for a time."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.urls import reverse


class Schedule(models.Model):
    """A rotation that the matrix may name. Its days and hand-over times are those of its time zone."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)
    time_zone = models.CharField(max_length=60, default="UTC")

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """The schedule's calendar."""
        return reverse("on-call-schedule", args=[self.slug])


class Layer(models.Model):
    """People who take turns. A higher layer goes before the lower ones where it has somebody.

    people: usernames, in the order of their turns. Empty days and from/until: around the clock; else only then.
    """

    class Unit(models.TextChoices):
        HOUR = "hour", "hours"
        DAY = "day", "days"
        WEEK = "week", "weeks"

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="layers")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=100)
    people = ArrayField(models.CharField(max_length=150), default=list)
    unit = models.CharField(max_length=4, choices=Unit.choices, default=Unit.WEEK)
    every = models.PositiveSmallIntegerField(default=1)
    starts_on = models.DateField()  # the first turn begins on this day at `handover`
    handover = models.TimeField()
    ends_on = models.DateField(null=True, blank=True)
    days = ArrayField(models.PositiveSmallIntegerField(), default=list, blank=True)  # 0 is Monday
    from_time = models.TimeField(null=True, blank=True)
    until_time = models.TimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(name="layer_once", fields=["schedule", "position"]),
            models.CheckConstraint(name="layer_every", condition=Q(every__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.schedule}: {self.name}"


class Override(models.Model):
    """Somebody stands in for whoever is on call by the layers. A swap is two of them with the same `swap` number."""

    class Kind(models.TextChoices):
        OVERRIDE = "override", "stands in"
        SWAP = "swap", "swapped"

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="overrides")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.OVERRIDE)
    person = models.CharField(max_length=150)  # username
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=300, default="", blank=True)
    swap = models.BigIntegerField(null=True)
    # Of a swap that was asked for: the username whose yes it waits for. Until then it puts nobody on call.
    awaiting = models.CharField(max_length=150, default="", blank=True)
    author_name = models.CharField(max_length=200)
    uid = models.CharField(max_length=200, default="", blank=True)  # of the calendar it was imported from
    cancelled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["starts_at"]
        constraints = [models.CheckConstraint(name="override_ends", condition=Q(ends_at__gt=F("starts_at")))]
        indexes = [models.Index(name="override_of_schedule", fields=["schedule", "ends_at"])]

    def __str__(self) -> str:
        return f"{self.person} from {self.starts_at}"


class Absence(models.Model):
    """Days on which somebody cannot be on call: the layers give the turn to the next person."""

    person = models.ForeignKey("accounts.Person", on_delete=models.CASCADE, related_name="absences")
    starts_on = models.DateField()
    ends_on = models.DateField()  # this day included, in the time zone of the schedule
    reason = models.CharField(max_length=200, default="", blank=True)

    class Meta:
        ordering = ["starts_on"]
        constraints = [models.CheckConstraint(name="absence_ends", condition=Q(ends_on__gte=F("starts_on")))]

    def __str__(self) -> str:
        return f"{self.person} away from {self.starts_on}"
