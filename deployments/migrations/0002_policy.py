
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0001_initial'),
        ('environments', '0002_environmentlock_against'),
        ('operations', '0005_effect'),
    ]

    operations = [
        migrations.CreateModel(
            name='ApproverGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=60, unique=True)),
                ('name', models.CharField(max_length=100)),
                ('people', models.JSONField(default=list)),
            ],
            options={
                'ordering': ['slug'],
            },
        ),
        migrations.AddField(
            model_name='release',
            name='migrations',
            field=models.CharField(blank=True, choices=[('none', 'none'), ('reversible', 'can be taken back'), ('one-way', 'cannot be taken back'), ('', 'not known')], default='', max_length=10),
        ),
        migrations.CreateModel(
            name='Policy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('soak_minutes', models.PositiveIntegerField(default=0)),
                ('evidence', models.JSONField(blank=True, default=list)),
                ('findings', models.JSONField(blank=True, default=dict)),
                ('keys', models.JSONField(blank=True, default=list)),
                ('incidents', models.JSONField(blank=True, default=list)),
                ('backup_minutes', models.PositiveIntegerField(default=0)),
                ('backup', models.CharField(choices=[('refuse', 'has to be there'), ('make', 'is made first, if there is none')], default='refuse', max_length=10)),
                ('hours', models.JSONField(blank=True, default=dict)),
                ('checklist', models.JSONField(blank=True, default=list)),
                ('approvers', models.JSONField(blank=True, default=dict)),
                ('way_back', models.CharField(blank=True, choices=[('', 'need not'), ('possible', 'has to be')], default='', max_length=10)),
                ('environment', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='policy', to='environments.environment')),
            ],
            options={
                'verbose_name_plural': 'policies',
            },
        ),
        migrations.CreateModel(
            name='ChecklistTick',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('item', models.CharField(max_length=300)),
                ('by_name', models.CharField(max_length=200)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('operation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='ticks', to='operations.operation')),
            ],
            options={
                'ordering': ['pk'],
                'constraints': [models.UniqueConstraint(fields=('operation', 'item'), name='tick_once')],
            },
        ),
        migrations.CreateModel(
            name='FreezeWindow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(blank=True, default='', max_length=60)),
                ('reason', models.CharField(max_length=300)),
                ('zone', models.CharField(default='UTC', max_length=60)),
                ('starts', models.CharField(max_length=16)),
                ('minutes', models.PositiveIntegerField()),
                ('rule', models.CharField(blank=True, default='', max_length=300)),
                ('author_name', models.CharField(max_length=200)),
                ('made_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('ended_by_name', models.CharField(blank=True, default='', max_length=200)),
                ('environment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='freezes', to='environments.environment')),
            ],
            options={
                'ordering': ['pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('ended_at', None), models.Q(('slug', ''), _negated=True)), fields=('environment', 'slug'), name='freeze_slug_once')],
            },
        ),
        migrations.CreateModel(
            name='ReleaseEvidence',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('scan', 'security scan'), ('signature', 'signature'), ('attestation', 'attestation')], max_length=12)),
                ('content', models.JSONField()),
                ('fingerprint', models.CharField(max_length=64)),
                ('added_by_name', models.CharField(max_length=200)),
                ('added_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('release', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='evidence', to='deployments.release')),
            ],
            options={
                'ordering': ['pk'],
                'constraints': [models.UniqueConstraint(fields=('release', 'kind', 'fingerprint'), name='evidence_once')],
            },
        ),
    ]
