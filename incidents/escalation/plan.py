"""The plan of an escalation: the matrix as it stood when the incident opened, as rows with absolute due times."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from incidents.models import EscalationPolicy, Incident, Level


def policy_for(severity: str) -> EscalationPolicy | None:
    """The matrix for a severity; None: nobody is paged for it."""
    found = EscalationPolicy.objects.filter(severities__contains=[severity]).prefetch_related("levels")
    return found.first()


def snapshot(policy: EscalationPolicy | None) -> dict[str, Any]:
    """The matrix as the incident keeps it; later changes do not change what runs."""
    if policy is None:
        return {}
    return {
        "slug": policy.slug,
        "name": policy.name,
        "repeats": policy.repeats,
        "repeat_after_seconds": policy.repeat_after_seconds,
        "levels": [
            {
                "number": level.number,
                "role": level.role,
                "after_seconds": level.after_seconds,
                "targets": level.targets,
                "channels": level.channels,
            }
            for level in policy.levels.all()
        ],
    }


def due_times(plan: dict[str, Any], since: datetime) -> list[tuple[int, dict[str, Any], datetime]]:
    """(round, level, due): every level of every round, counted from `since` and never from the level before."""
    levels: Sequence[dict[str, Any]] = plan.get("levels", [])
    if not levels:
        return []
    turn = max(level["after_seconds"] for level in levels) + plan["repeat_after_seconds"]
    return [
        (number, level, since + timedelta(seconds=(number - 1) * turn + level["after_seconds"]))
        for number in range(1, plan["repeats"] + 2)
        for level in levels
    ]


def write_levels(incident: Incident, since: datetime, *, after_round: int = 0) -> list[Level]:
    """All levels of the incident's plan, pending, in the caller's transaction. after_round: the last one there was."""
    return Level.objects.bulk_create(
        Level(
            incident=incident,
            round=after_round + number,
            number=level["number"],
            role=level["role"],
            targets=level["targets"],
            channels=level["channels"],
            due_at=due,
        )
        for number, level, due in due_times(incident.policy, since)
    )


PENDING = Q(state=Level.State.PENDING)
