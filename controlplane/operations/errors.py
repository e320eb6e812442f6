"""What can go wrong in the engine, each with words for the person who reads it."""


class OperationError(Exception):
    """A request that cannot be carried out; the text says why and what would change it."""


class Conflict(OperationError):
    """Somebody was first, or the plan is not the one that was read: look again, then decide."""


class Refused(OperationError):
    """A rule forbids it to this person, whatever they do (the requester approving, a missing role)."""


class Invalid(OperationError):
    """The input itself is wrong."""


class StepError(Exception):
    """A step could not do its work. permanent: trying again cannot help."""

    def __init__(self, text: str, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent


class Unknown(Exception):
    """Nobody but a person can tell whether the effect happened. The text says what to look at."""


class Stopped(BaseException):
    """Somebody asked to stop, in the middle of a step that allows it. No `except Exception` swallows it either."""


class LeaseLost(BaseException):
    """Another worker may hold this operation: stop at once and write nothing.

    A BaseException, so that no step's `except Exception` can swallow it.
    """
