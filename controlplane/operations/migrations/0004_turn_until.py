from django.db import migrations, models


class Migration(migrations.Migration):
    """Operations in the background start first come first served, and none may hold the others up for ever."""

    dependencies = [("operations", "0003_lock_names")]

    operations = [
        migrations.AddField(model_name="operation", name="turn_until", field=models.DateTimeField(null=True)),
    ]
