from django.db import migrations


class Migration(migrations.Migration):
    """One sequence for the whole installation: a later claim of anything has the greater fence."""

    dependencies = [("operations", "0001_initial")]

    operations = [
        migrations.RunSQL("CREATE SEQUENCE operations_fence", "DROP SEQUENCE operations_fence"),
    ]
