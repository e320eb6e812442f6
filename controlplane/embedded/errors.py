"""What can go wrong around the local stack, in words for the person who started it."""

from __future__ import annotations


class StackError(Exception):
    """The message says what happened and what to do; the commands print it and leave with 1."""
