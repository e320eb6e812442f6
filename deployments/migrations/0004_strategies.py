import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0003_pipelines'),
    ]

    operations = [
        migrations.CreateModel(
            name='CanaryVerdict',
            fields=[
                ('operation', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='canary_verdict', serialize=False, to='operations.operation')),
                ('outcome', models.CharField(choices=[('good', 'no worse'), ('bad', 'worse'), ('none', 'no verdict')], max_length=10)),
                ('words', models.TextField()),
                ('goes_on', models.BooleanField()),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.AddField(
            model_name='deployment',
            name='strategy',
            field=models.CharField(default='rolling', max_length=20),
        ),
        migrations.CreateModel(
            name='CanarySample',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('canary_requests', models.BigIntegerField()),
                ('canary_errors', models.BigIntegerField()),
                ('canary_ms', models.FloatField(null=True)),
                ('baseline_requests', models.BigIntegerField()),
                ('baseline_errors', models.BigIntegerField()),
                ('baseline_ms', models.FloatField(null=True)),
                ('fresh', models.FloatField(default=1.0)),
                ('counters', models.JSONField(default=dict)),
                ('operation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='canary_samples', to='operations.operation')),
            ],
            options={
                'ordering': ['pk'],
                'indexes': [models.Index(fields=['operation', 'id'], name='canary_sample_order')],
            },
        ),
        migrations.CreateModel(
            name='StrategyTable',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('settings', models.JSONField(default=dict)),
                ('environment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='strategies', to='environments.environment')),
                ('service', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='environments.service')),
            ],
            options={
                'ordering': ['environment_id', 'service_id'],
                'constraints': [models.UniqueConstraint(fields=('environment', 'service'), name='strategy_once', nulls_distinct=False)],
            },
        ),
    ]
