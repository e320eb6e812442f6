"""How long a condition must hold, as the guide and Prometheus write it: 5m, 90s, 1h30m."""

import re

SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
WRITTEN = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?", re.ASCII)
LONGEST = 30 * 86_400


def seconds_of(text: str) -> int:
    """The seconds of a duration; "0s" is at once. Raises ValueError with what is wrong in words."""
    written = WRITTEN.fullmatch(text.strip().replace(" ", ""))
    if written is None or not any(written.groups()):
        raise ValueError("is no duration; write 5m, 90s or 1h30m")
    seconds = sum(int(count or 0) * size for count, size in zip(written.groups(), SECONDS.values(), strict=True))
    if seconds > LONGEST:
        raise ValueError(f"is longer than {LONGEST // 86_400} days")
    return seconds


def written(seconds: int) -> str:
    """The same the other way round: 300 is 5m."""
    text = ""
    for unit, size in SECONDS.items():
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def problem_with(text: str) -> str:
    """What is wrong with one that is about to be configured, in words; "" when nothing is."""
    try:
        seconds_of(text)
    except ValueError as error:
        return str(error)
    return ""
