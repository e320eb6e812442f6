"""Which names an object may have, the same for every storage."""

from controlplane.operations.errors import StepError

# Beside an object, a folder keeps a temporary file whose name is this much shorter than what file systems allow.
LONGEST_PART = 200


def checked(key: str) -> str:
    """The key as it is. Raises StepError when it could leave the storage, or hide in it."""
    parts = key.split("/")
    for part in parts:
        if not part or part.startswith(".") or "\0" in part or len(part.encode()) > LONGEST_PART:
            raise StepError(
                f"{key!r} cannot be the name of an object: no part may be empty, begin with a dot or be longer than "
                f"{LONGEST_PART} bytes.",
                permanent=True,
            )
    return key
