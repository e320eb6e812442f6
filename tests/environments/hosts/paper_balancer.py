"""A load balancer of paper: it shares nothing out, remembers who is in, and drains as slowly as a test wants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.operations.errors import StepError
from environments.balancers.base import Counted, Member, Seen, Standing


@dataclass
class PaperBalancer:
    """See `base.Balancer`. drains: connections that are open at the first look after a removal, one less each look."""

    kind: str = "paper"
    members: dict[str, Member] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    drains: int = 0
    away: int = 0
    unhealthy: set[str] = field(default_factory=set)
    done: list[tuple[str, str]] = field(default_factory=list)
    removed: list[Member] = field(default_factory=list)
    looks: int = 0
    fewest: int = 99

    def problems(self, settings: Mapping[str, Any]) -> dict[str, str]:
        return {key: "is no setting of it" for key in settings if key not in ("kind", "pool")}

    def look(self, settings: Mapping[str, Any], member: Member) -> Seen:
        self._answer()
        self.looks += 1
        if member.name in self.members:
            return Seen(Standing.UNHEALTHY if member.name in self.unhealthy else Standing.SERVING)
        left = self.open.get(member.name, 0)
        self.open[member.name] = max(0, left - 1)
        return Seen(Standing.DRAINING, "", left) if left else Seen(Standing.ABSENT)

    def remove(self, settings: Mapping[str, Any], member: Member) -> None:
        self._answer()
        if self.members.pop(member.name, None):
            self.removed.append(member)
            self.open[member.name] = self.drains
            self.done.append(("remove", member.name))
            self.fewest = min(self.fewest, len(self.members))

    def add(self, settings: Mapping[str, Any], member: Member) -> None:
        self._answer()
        if member.name not in self.members:
            self.done.append(("add", member.name))
        self.members[member.name] = member

    def weigh(self, settings: Mapping[str, Any], weights: Mapping[Member, int]) -> None:
        raise StepError("it knows no weights", permanent=True)

    def counted(self, settings: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Counted]:
        return {}

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise StepError("the balancer is away")
