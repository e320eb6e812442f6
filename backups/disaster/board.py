"""What the board says of disaster recovery: one line of the matrix, and a card for what a person should see to."""

from django.urls import reverse

from backups.disaster.overview import PlanView, overview
from controlplane.accounts.access import Actor
from controlplane.web.templatetags.ui import ago, duration, promised
from controlplane.web.tones import Tone
from environments.cards import Card, Contribution, LineCell
from environments.models import Environment

AT_MOST = 4


def recovery(actor: Actor, environments: list[Environment]) -> Contribution:
    """Could the other side take over, how much would be lost, how long would it take?"""
    views = overview(actor)
    cells = {view.plan.primary.slug: _cell(view) for view in views}
    cards = [card for view in views for card in _cards(view)]
    if len(cards) > AT_MOST:
        text = ", ".join(card.title for card in cards[:3])
        cards = [Card(Tone.BAD, f"{len(cards)} things are wrong with recovery plans", text, reverse("recovery"))]
    return Contribution("Recovery", "whether the other side could take over", cells, cards)


def _cell(view: PlanView) -> LineCell:
    rpo, rto = view.rpo, view.rto
    lost = "not known" if view.look is None else "everything" if rpo.now is None else duration(rpo.now)
    takes = "not known" if rto.now is None else f"{'at least ' if view.rto_is_least else ''}{duration(rto.now)}"
    text = f"RPO {lost} of {promised(rpo.promised)}, RTO {takes} of {promised(rto.promised)}"
    word = f"not ready: {view.trouble[0].title}" if view.word == "not ready" and view.trouble else view.word
    if view.is_away:
        word = f"{word}; {view.plan.serving.name} serves people"
    to = view.look.restorable_to if view.look else None
    until = ("restorable to", to) if to else None
    drilled = ("drill", view.drill.operation.requested_at) if view.drill else None
    return LineCell(view.tone, word, text, view.plan.get_absolute_url(), until, drilled)


def _cards(view: PlanView) -> list[Card]:
    plan, url = view.plan, view.plan.get_absolute_url()
    cards = []
    if view.is_away:
        text = f"Bring {plan.primary.name} home when it is well again."
        cards.append(Card(Tone.WAIT, f"{plan.standby.name} serves people", text, url))
    if view.because and not view.is_away:
        cards.append(Card(Tone.BAD, f"{plan.name}: not ready for a failover", view.because, url))
    elif view.is_stale and view.look is not None:
        text = f"Nobody has looked since {ago(view.look.at, view.now)}: see that a clock process runs."
        cards.append(Card(Tone.WAIT, f"{plan.name}: not looked at lately", text, url))
    if view.drill_is_overdue:
        due = f"It was due {ago(view.drill_due_at, view.now)}." if view.drill_due_at else "It was due and was not done."
        cards.append(Card(Tone.WAIT, f"{plan.name}: the drill is overdue", due, url))
    if view.kit_word and view.look is not None:
        text = "Without a fresh one nobody can fail over while this control plane is away."
        cards.append(Card(Tone.WAIT, f"{plan.name}: {view.kit_word}", text, url))
    return cards
