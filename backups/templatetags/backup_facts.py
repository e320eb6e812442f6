"""What an operation has to do with backups, for its page, in as many queries however much it is."""

from dataclasses import dataclass

from django import template

from backups.models import BackupRun, Cleanup, Restore, RestorePoint, ScratchDatabase
from controlplane.operations.models import Operation

register = template.Library()


@dataclass(frozen=True)
class Facts:
    """What it makes, brings back, keeps to be looked into, deletes, and is a restore point of."""

    runs: list[BackupRun]
    restores: list[Restore]
    scratch: ScratchDatabase | None
    cleanup: Cleanup | None
    restore_point: RestorePoint | None


@register.simple_tag
def backup_facts(operation: Operation) -> Facts:
    """All of it, with the policies and backups that the page names."""
    mine = {"operation": operation}
    return Facts(
        runs=list(BackupRun.objects.filter(**mine).select_related("policy__environment", "backup").order_by("pk")),
        restores=list(Restore.objects.filter(**mine).select_related("backup").order_by("pk")),
        scratch=ScratchDatabase.objects.filter(**mine, removed_at=None).first(),
        cleanup=Cleanup.objects.filter(**mine).select_related("policy__environment").first(),
        restore_point=RestorePoint.objects.filter(**mine).first(),
    )
