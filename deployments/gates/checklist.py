"""What a person has to look at and tick, for each deployment."""

from collections.abc import Collection

from controlplane.operations.gates import Gate, Outcome
from deployments.models import Policy


def gates(policy: Policy, ticked: Collection[str], *, is_asked_for: bool) -> list[Gate]:
    """It waits until all of it is ticked."""
    if not policy.checklist:
        return []
    left = [item for item in policy.checklist if item not in ticked]
    if not left:
        return [Gate("checklist", "Checklist", Outcome.PASSED, f"all {len(policy.checklist)} items are ticked")]
    words = f"{len(left)} of {len(policy.checklist)} to tick: {'; '.join(left)}"
    if not is_asked_for:
        words += ". They are ticked once it is asked for"
    return [Gate("checklist", "Checklist", Outcome.PENDING, words)]
