"""Writes down what came where until now, as far as deployments and adoptions know it."""

from typing import Any

from django.db import migrations


def write_down(apps: Any, schema_editor: Any) -> None:
    """In the order in which they ended: what a deployment found running, else what the one before left, was replaced."""
    Arrival = apps.get_model("environments", "Arrival")
    Deployment = apps.get_model("deployments", "Deployment")
    Operation = apps.get_model("operations", "Operation")
    told = ("operation__finished_at", "pk", "release__version", "release__digest", "from_version", "from_digest")
    deployments = Deployment.objects.filter(operation__state="succeeded").values_list(*told)  # not their plans
    adoptions = Operation.objects.filter(kind="adoption", state="succeeded").values_list("pk", "finished_at", "plan")
    for place in apps.get_model("environments", "Placement").objects.select_related("environment", "service"):
        came = []
        here = deployments.filter(environment=place.environment_id, release__service=place.service_id)
        for finished, pk, version, digest, from_version, from_digest in here.iterator():
            came.append((finished, pk, (version, digest), (from_version, from_digest)))
        for pk, finished, plan in adoptions.filter(scopes=[place.environment.slug]):
            said = plan["steps"][0]["arguments"]
            if said["service"] == place.service.slug:
                came.append((finished, pk, (said["version"], said["digest"]), ("", "")))
        before = ("", "")
        for _finished, pk, to, found in sorted(came):
            over = found if found[1] else before
            if over[1] != to[1]:
                Arrival.objects.create(
                    placement=place, operation_id=pk, version=to[0], digest=to[1],
                    over_version=over[0], over_digest=over[1],
                )  # fmt: skip
            before = to


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0005_delivery_newest'),
        ('environments', '0004_arrival'),
        ('operations', '0007_approver_groups'),
    ]

    operations = [migrations.RunPython(write_down, migrations.RunPython.noop)]
