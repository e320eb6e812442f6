"""What of ours is late or broken, for the board: all questions in one query, as mostly the answer is "nothing"."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from environments.cards import Card

Answers = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """columns: subqueries by name, none for who may not know. cards: what their values say; `now` is among them."""

    columns: Callable[[Actor], Mapping[str, Any]]
    cards: Callable[[Answers], list[Card]]


def cards(actor: Actor, *questions: Question) -> list[Card]:
    """What the board says of all of them, in their order."""
    asked = [(question, question.columns(actor)) for question in questions]
    columns = {name: column for _, named in asked for name, column in named.items()}
    if not columns:
        return []
    # Any row that is sure to be there.
    one_row = Person.objects.filter(pk=actor.person.pk)
    found = one_row.values(now=Now(), **columns).get()
    return [card for question, named in asked if named for card in question.cards(found)]
