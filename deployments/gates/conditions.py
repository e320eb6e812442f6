"""What other apps say of the environment: no incident is open, and a backup is there to go back to."""

from controlplane.operations.gates import Gate, Outcome
from deployments.gates.emergency import emergency
from deployments.models import Policy
from environments.conditions import Said, ask
from environments.models import Environment

NOBODY: Said = (Outcome.FAILED, "nobody can say: nothing here watches over it. Take it out of the policy.")


def gates(environment: Environment, policy: Policy) -> list[Gate]:
    """What the policy asks for."""
    found = []
    if policy.incidents:
        title = f"No open {' or '.join(policy.incidents)}"
        said = ask("incidents", environment, {"severities": policy.incidents}) or NOBODY
        found.append(Gate("incidents", title, *said))
    if policy.backup_minutes:
        found.append(_backup(environment, policy))
    return found


def _backup(environment: Environment, policy: Policy) -> Gate:
    outcome, words = ask("backup", environment, {"minutes": policy.backup_minutes}) or NOBODY
    title = f"Verified backup of the last {policy.backup_minutes} min"
    is_made = outcome is Outcome.FAILED and policy.backup == Policy.Backup.MAKE and (outcome, words) != NOBODY
    if is_made and not emergency(environment):  # or none is made, and what it stands for is set aside like the others
        return Gate("backup", title, Outcome.PASSED, f"{words} One is made and verified first.")
    return Gate("backup", title, outcome, words)
