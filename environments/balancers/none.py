"""No load balancer: whoever is asked for is there, and there is nothing to wait for."""

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.operations.errors import StepError
from environments.balancers.base import Counted, Member, Seen, Standing


class NoBalancer:
    """See `base.Balancer`. Where nobody shares requests out, nothing can be taken out of it either."""

    kind = "none"

    def problems(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """It has no settings."""
        return dict.fromkeys(settings.keys() - {"kind"}, "is no setting where there is no balancer")

    def look(self, settings: Mapping[str, Any], member: Member) -> Seen:
        """Nobody sends it anything, as far as anybody knows."""
        return Seen(Standing.SERVING, "there is no balancer")

    def remove(self, settings: Mapping[str, Any], member: Member) -> None:
        """Nothing to do."""

    def add(self, settings: Mapping[str, Any], member: Member) -> None:
        """Nothing to do."""

    def weigh(self, settings: Mapping[str, Any], weights: Mapping[Member, int]) -> None:
        """Nobody could."""
        raise StepError("There is no balancer that could share requests by weight.", permanent=True)

    def counted(self, settings: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Counted]:
        """Nobody counts."""
        return {}
