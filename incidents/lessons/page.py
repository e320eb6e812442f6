"""What the page of a post-mortem shows, in a fixed number of queries."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from functools import cached_property

from django.urls import reverse
from django.utils.safestring import SafeString

from controlplane.accounts.access import Actor, holders
from controlplane.accounts.models import Person, Role
from controlplane.clock.database import database_time
from controlplane.operations.keyset import key_in
from controlplane.web.tones import Tone
from incidents.access import visible_incidents
from incidents.lessons.documents import ALLOWED, State, problem_with_publishing
from incidents.lessons.markdown import render
from incidents.models import ActionItem, Incident, Postmortem, PostmortemVersion, Review
from incidents.page import ENTRIES

VERSIONS, ITEMS = 20, 100
# Beyond so many lines a difference is no longer read; they are counted.
DIFFERENCES = 400
TONES = {State.DRAFT: Tone.BUSY, State.REVIEW: Tone.WAIT, State.PUBLISHED: Tone.OK}
REVIEWS = {Review.State.ASKED: Tone.WAIT, Review.State.APPROVED: Tone.OK, Review.State.CHANGES: Tone.BAD}
ITEM_TONES = {
    ActionItem.State.OPEN: Tone.BUSY, ActionItem.State.DONE: Tone.WAIT, ActionItem.State.VERIFIED: Tone.OK,
    ActionItem.State.DROPPED: Tone.IDLE,
}  # fmt: skip
MOVES = {State.REVIEW: "Hand in for review", State.PUBLISHED: "Publish", State.DRAFT: "Back to draft"}


@dataclass(frozen=True)
class ItemRow:
    """One action item. late: days since its due day, 0 while there is time."""

    item: ActionItem
    late: int
    may_write: bool
    may_verify: bool

    @property
    def tone(self) -> Tone:
        """Red when it is overdue, as its state is otherwise."""
        return Tone.BAD if self.late else ITEM_TONES[ActionItem.State(self.item.state)]

    @property
    def word(self) -> str:
        """The state in words."""
        return "overdue" if self.late else str(self.item.get_state_display())


def item_rows(actor: Actor, items: Iterable[ActionItem]) -> list[ItemRow]:
    """With what this person may do, and how late they are by the database's day. Of each, the incident is loaded."""
    today = database_time().date()
    return [
        ItemRow(
            one,
            (today - one.due_on).days if one.state == ActionItem.State.OPEN and one.due_on < today else 0,
            actor.may(Role.OPERATOR, one.incident.environments),
            one.owner_id != actor.person.pk,
        )
        for one in items
    ]


@dataclass(frozen=True)
class DiffLine:
    """One line of a difference. sign: "+", "-", "@" or " "."""

    sign: str
    text: str

    @property
    def word(self) -> str:
        """For who does not see colours."""
        return {"+": "added", "-": "removed", "@": "place"}.get(self.sign, "")


class PostmortemPage:
    """Everything on the page. asked: the number of the version to show, as the address says it."""

    def __init__(self, actor: Actor, incident: Incident, asked: str = "") -> None:
        self.actor, self.incident = actor, incident
        self.postmortem = Postmortem.objects.filter(incident=incident).first()
        self._asked = key_in(asked)

    @property
    def tone(self) -> Tone:
        """Of its state."""
        assert self.postmortem is not None
        return TONES[State(self.postmortem.state)]

    @cached_property
    def shown(self) -> PostmortemVersion:
        """The version to read: the one asked for, or the last."""
        rows = PostmortemVersion.objects.filter(postmortem=self.postmortem)
        assert self.postmortem is not None
        return rows.filter(number=self._asked).first() or rows.get(number=self.postmortem.version)

    @property
    def is_last(self) -> bool:
        """Whether it is the one that counts."""
        return self.postmortem is not None and self.shown.number == self.postmortem.version

    @property
    def html(self) -> SafeString:
        """The text as people read it."""
        return rendered(self.incident, self.shown.body)

    @cached_property
    def versions(self) -> list[PostmortemVersion]:
        """The last ones up to the one that is shown, without their text."""
        rows = PostmortemVersion.objects.filter(postmortem=self.postmortem).defer("body")
        upper = max(self.shown.number + VERSIONS // 2, VERSIONS)
        return list(rows.filter(number__lte=upper).order_by("-number")[:VERSIONS])

    @cached_property
    def difference(self) -> list[DiffLine]:
        """What the shown version changed, when somebody asked for it."""
        if not self._asked or self.shown.number < 2:
            return []
        before = PostmortemVersion.objects.get(postmortem=self.postmortem, number=self.shown.number - 1)
        lines = list(_difference(before.body, self.shown.body))
        more = len(lines) - DIFFERENCES
        return lines[:DIFFERENCES] + ([DiffLine("@", f"and {more} lines more")] if more > 0 else [])

    @cached_property
    def reviews(self) -> list[tuple[Review, Tone, bool]]:
        """Each reviewer's word, its tone, and whether it is about an older version."""
        rows = Review.objects.filter(postmortem=self.postmortem).order_by("at", "pk")
        assert self.postmortem is not None
        last = self.postmortem.version
        return [(one, REVIEWS[Review.State(one.state)], one.version < last) for one in rows[:50]]

    @cached_property
    def problem(self) -> str:
        """Why it cannot be published yet."""
        assert self.postmortem is not None
        return "" if self.postmortem.state == State.PUBLISHED else problem_with_publishing(self.postmortem)

    @property
    def moves(self) -> list[tuple[str, str]]:
        """The states it may go to, with the words of the button; publishing only when it can be."""
        assert self.postmortem is not None
        to = ALLOWED[self.postmortem.state]
        return [(state, MOVES[State(state)]) for state in to if state != State.PUBLISHED or not self.problem]

    @cached_property
    def reviewers(self) -> list[Person]:
        """Who could be asked."""
        spoken = {one.person_id for one, _, old in self.reviews if not old or one.state == Review.State.ASKED}
        not_these = spoken | {self.shown.author_id}
        return [one for one in holders(Role.OPERATOR, self.incident.environments) if one.pk not in not_these]

    @cached_property
    def items(self) -> list[ItemRow]:
        """The action items of the incident."""
        items = list(ActionItem.objects.filter(incident=self.incident)[:ITEMS])
        for one in items:
            one.incident = self.incident
        return item_rows(self.actor, items)

    @property
    def may_write(self) -> bool:
        """Operators of all its environments write and review."""
        return self.actor.may(Role.OPERATOR, self.incident.environments)


def rendered(incident: Incident, body: str) -> SafeString:
    """A text with its citations as links: into the incident's page, or to an entry too far back to be on it."""

    def link(seq: int) -> str:
        if not 1 <= seq <= incident.last_seq:
            return ""
        if seq > incident.last_seq - ENTRIES:
            return f"{incident.get_absolute_url()}#entry-{seq}"
        return reverse("incident-entry", args=[incident.pk, seq])

    return render(body, link)


def _difference(before: str, after: str) -> Iterator[DiffLine]:
    lines = unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm="")
    for number, line in enumerate(lines):
        if number >= 2:  # the first two name files
            yield DiffLine("@", line.strip("@ ")) if line.startswith("@@") else DiffLine(line[0], line[1:])


class ItemsPage:
    """The list of action items: overdue ones first, then what is open, then what waits to be verified."""

    def __init__(self, actor: Actor, before: int = 0) -> None:
        self.actor, self._before = actor, before
        self._rows = ActionItem.objects.select_related("incident").defer("incident__search", "incident__policy")
        scopes = actor.scopes(Role.VIEWER)
        if scopes is not None:
            self._rows = self._rows.filter(incident__in=visible_incidents(actor).values("pk"))

    @cached_property
    def open_ones(self) -> list[ItemRow]:
        """By due day, so the overdue ones come first."""
        return item_rows(self.actor, self._rows.filter(state=ActionItem.State.OPEN).order_by("due_on", "pk")[:ITEMS])

    @cached_property
    def done(self) -> list[ItemRow]:
        """What waits for somebody to verify it."""
        return item_rows(self.actor, self._rows.filter(state=ActionItem.State.DONE).order_by("-pk")[:ITEMS])

    @cached_property
    def _settled(self) -> list[ActionItem]:
        over = self._rows.filter(state__in=[ActionItem.State.VERIFIED, ActionItem.State.DROPPED])
        if self._before:
            over = over.filter(pk__lt=self._before)
        return list(over.order_by("-pk")[: VERSIONS + 1])

    @property
    def settled(self) -> list[ItemRow]:
        """What is over, the newest first."""
        return item_rows(self.actor, self._settled[:VERSIONS])

    @property
    def older(self) -> int:
        """The key to ask for the page after this one; 0 when there is none."""
        return self._settled[VERSIONS - 1].pk if len(self._settled) > VERSIONS else 0
