"""What other apps say of the environment: no incident is open, and a backup is there to go back to."""

from controlplane.operations.gates import Gate, Outcome
from deployments.gates.emergency import emergency
from deployments.models import Policy
from environments.conditions import Said, ask
from environments.models import Environment

NOBODY: Said = (Outcome.FAILED, "nobody can say: nothing here watches over it. Take it out of the policy.")


def gates(environment: Environment, policy: Policy, *, makes_backup: bool | None) -> list[Gate]:
    """What the policy asks for. makes_backup: whether the plan has one made first; None where there is no plan yet."""
    found = []
    if policy.incidents:
        title = f"No open {' or '.join(policy.incidents)}"
        said = ask("incidents", environment, {"severities": policy.incidents}) or NOBODY
        found.append(Gate("incidents", title, *said))
    if policy.backup_minutes:
        found.append(_backup(environment, policy, makes_backup))
    return found


def _backup(environment: Environment, policy: Policy, makes_backup: bool | None) -> Gate:
    is_made = makes_backup
    if is_made is None:
        # In an emergency none is made, and what it stands for is set aside like the others.
        is_made = policy.backup == Policy.Backup.MAKE and not emergency(environment)
    outcome, words = ask("backup", environment, {"minutes": policy.backup_minutes, "is_made": is_made}) or NOBODY
    title = f"Verified backup of the last {policy.backup_minutes} min"
    return Gate("backup", title, outcome, words)
