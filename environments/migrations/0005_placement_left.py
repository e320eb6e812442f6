from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("environments", "0004_arrival")]
    operations = [
        migrations.AddField(
            model_name="placement", name="left", field=models.JSONField(blank=True, default=dict)
        ),
    ]
