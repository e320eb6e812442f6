import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    """What an operation locks may be narrower than its scopes: a backup changes no environment."""

    dependencies = [("operations", "0002_fence")]

    operations = [
        migrations.AddField(
            model_name="operation",
            name="lock_names",
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), size=None, default=list),
            preserve_default=False,
        ),
        migrations.RunSQL("UPDATE operations_operation SET lock_names = scopes", migrations.RunSQL.noop),
        migrations.RenameField(model_name="operationlock", old_name="scope", new_name="name"),
        migrations.AlterField(
            model_name="operationlock", name="name", field=models.CharField(max_length=200, unique=True)
        ),
    ]
