"""The five states a person sees, everywhere the same five."""

from enum import StrEnum


class Tone(StrEnum):
    """A state's shape and colour: round green, round blue, orange diamond, red square, grey ring."""

    OK = "ok"
    BUSY = "busy"
    WAIT = "wait"
    BAD = "bad"
    IDLE = "idle"
