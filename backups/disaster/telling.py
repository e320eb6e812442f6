"""Telling people that a site was moved: apps that know channels register how, in `AppConfig.ready()`."""

from collections.abc import Callable, Sequence

# key: the same again is the same message. whom: channels and contacts, as the plan names them.
Teller = Callable[[str, Sequence[str], str], int]
_tellers: list[Teller] = []


def register(teller: Teller) -> None:
    """Have it tell people; it returns how many messages it queued, and does so in a transaction of its own."""
    if teller not in _tellers:
        _tellers.append(teller)


def tell(key: str, whom: Sequence[str], words: str) -> int:
    """Queue the message with all who know channels; returns how many."""
    return sum(teller(key, whom, words) for teller in _tellers)
