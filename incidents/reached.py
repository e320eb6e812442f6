"""How far an escalation got, in the words of the incident's page: levels, the pages of each, and their receipts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.web.templatetags.ui import duration
from controlplane.web.tones import Tone
from incidents.models import ChannelKind, Incident, Level, Page

NOTHING = timedelta(0)


def whom(level: Level) -> str:
    """Whom the level means: "bob", or whoever is on call when it is paged: "on call: primary"."""
    words = [f"on call: {one['schedule']}" if one.get("schedule") else one.get("person", "") for one in level.targets]
    return ", ".join(word for word in words if word)


@dataclass(frozen=True)
class PageView:
    """One person's page."""

    page: Page

    @property
    def by(self) -> str:
        """The channel that is tried, or was last: "PagerDuty"; "" when the person has no address."""
        ways = self.page.ways
        kind = ways[min(self.page.way, len(ways) - 1)].get("channel", "") if ways else ""
        return ChannelKind(kind).label if kind in ChannelKind.values else kind

    @property
    def receipts(self) -> str:
        """How long each took since the page was due: "accepted 0.3 s · delivered 2.1 s · not seen"."""
        page = self.page
        times = (("accepted", page.accepted_at), ("delivered", page.delivered_at), ("seen", page.seen_at))
        said = [f"{word} {self._after(at)}" for word, at in times if at]
        if not said or page.state in (Page.State.FAILED, Page.State.CANCELLED):
            return " · ".join([*said, page.get_state_display()])
        return " · ".join(said if page.seen_at else [*said, "not seen"])

    def _after(self, at: datetime) -> str:
        return duration(max(at - self.page.queued_at, NOTHING))


@dataclass(frozen=True)
class LevelView:
    """One level of the escalation, and how far its pages got."""

    level: Level
    pages: Sequence[PageView]

    @property
    def tone(self) -> Tone:
        """Green once somebody has seen it, blue while it is under way, red when it reached nobody."""
        if self.level.state != Level.State.FIRED:
            return Tone.IDLE
        states = {view.page.state for view in self.pages}
        if Page.State.SEEN in states:
            return Tone.OK
        return Tone.BAD if states <= {Page.State.FAILED} else Tone.BUSY

    @property
    def is_pending(self) -> bool:
        """Its time is still to come."""
        return self.level.state == Level.State.PENDING

    @property
    def whom(self) -> str:
        """Whom it will page."""
        return whom(self.level)

    @property
    def ways(self) -> str:
        """By what it will reach people, in the order of trying: "phone, then SMS"."""
        return ", then ".join(ChannelKind(kind).label for kind in self.level.channels if kind in ChannelKind.values)


def levels_of(incident: Incident) -> list[LevelView]:
    """What was paged, and the first round of what is to come; two queries."""
    rows = list(Level.objects.filter(incident=incident).prefetch_related("pages"))
    first = min((level.round for level in rows if level.state == Level.State.PENDING), default=0)
    return [
        LevelView(level, [PageView(page) for page in level.pages.all()])
        for level in rows
        if level.state != Level.State.CANCELLED and (level.state != Level.State.PENDING or level.round == first)
    ]
