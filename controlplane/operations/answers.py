"""What a page answers when the engine says no."""

from controlplane.accounts.access import Actor
from controlplane.audit.record import record_denied
from controlplane.operations.errors import Conflict, Invalid, OperationError, Refused

STATUS = {Refused: 403, Conflict: 409, Invalid: 422}


def status_of(error: OperationError, actor: Actor, action: str, target: str, scopes: list[str]) -> int:
    """The HTTP status of an error; an attempt against a rule goes to the audit."""
    if isinstance(error, Refused):
        record_denied(actor.who, action, target, scopes=scopes, reason=str(error))
    return STATUS[type(error)]
