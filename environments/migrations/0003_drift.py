import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("environments", "0002_environmentlock_against")]
    operations = [
        migrations.CreateModel(
            name="Drift",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("what", models.CharField(max_length=20)),
                ("subject", models.CharField(max_length=200)),
                ("wanted", models.CharField(max_length=500)),
                ("found", models.CharField(max_length=500)),
                ("began_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "placement",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="drifts",
                        to="environments.placement",
                    ),
                ),
            ],
            options={
                "ordering": ["-began_at", "what", "subject"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("ended_at__isnull", True)), fields=["placement"], name="drift_open"
                    ),
                    models.Index(fields=["placement", "-ended_at"], name="drift_ended"),
                ],
            },
        ),
        migrations.CreateModel(
            name="DriftWatch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("due_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("look", models.BigIntegerField(default=0)),
                ("known_at", models.DateTimeField(blank=True, null=True)),
                ("unknown", models.CharField(blank=True, default="", max_length=500)),
                ("unknown_since", models.DateTimeField(blank=True, null=True)),
                (
                    "placement",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="drift_watch",
                        to="environments.placement",
                    ),
                ),
            ],
            options={"indexes": [models.Index(fields=["due_at"], name="drift_due")]},
        ),
    ]
