"""How the deed is shown beside the plan: each change, the step that explains it, and what differs, in red."""

from dataclasses import dataclass
from functools import cached_property

from controlplane.operations.deeds import compared, specs_of
from controlplane.operations.models import Deed, Effect, Operation
from controlplane.web.tones import Tone

SHOWN = 60  # changes listed; what differs is said whichever it is
END_WORDS = {
    Deed.End.NOBODY_KNOWS: "Nobody asked what is there now: that is done after a success, where somebody can be asked.",
    Deed.End.DUE: "What is there now is being asked.",
    Deed.End.AS_PLANNED: "What was there right after the end is what the plan promised.",
    Deed.End.OVERTAKEN: "Another operation began right after it, so what it left could not be seen any more.",
    Deed.End.UNHEARD: "What is there now could not be asked. Look at the environment.",
}
# Beside the heading: that every change is explained says nothing of what there is in the end.
EXPLAINED = {
    Deed.End.NOBODY_KNOWS: "explained by the plan, its end was not asked",
    Deed.End.DUE: "explained by the plan, its end is being asked",
    Deed.End.AS_PLANNED: "as planned",
    Deed.End.OVERTAKEN: "explained by the plan, its end not seen",
    Deed.End.UNHEARD: "explained by the plan, its end not known",
}


@dataclass(frozen=True)
class Done:
    """One change. step: the title of the step that made it. wrong: why the plan does not explain it, or ""."""

    effect: Effect
    step: str
    wrong: str

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What the driver told besides, by name."""
        return [(name, str(value)) for name, value in self.effect.facts.items()]


class DeedPage:
    """What was done so far, or in the end."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    @cached_property
    def deed(self) -> Deed | None:
        """The comparison that was written down at the end; None before, and where there is nothing to compare."""
        return Deed.objects.filter(operation=self.operation).first() if self.operation.is_finished else None

    @cached_property
    def all(self) -> list[Done]:
        """Every change, in order."""
        effects = list(self.operation.effects.all())
        specs = specs_of(self.operation)
        titles = {key: str(spec["title"]) for key, spec in specs.items()}
        wrong = compared(self.operation, effects) if effects else []
        return [Done(one, titles.get(one.step, one.step), words) for one, words in zip(effects, wrong, strict=True)]

    @property
    def shown(self) -> list[Done]:
        """As many of them as a page lists."""
        return self.all[:SHOWN]

    @property
    def more(self) -> int:
        """How many are not listed."""
        return max(0, len(self.all) - SHOWN)

    @cached_property
    def differences(self) -> list[str]:
        """What the plan does not explain, then what there is otherwise than it promised."""
        ends = self.deed.end_differences if self.deed else []
        return [one.wrong for one in self.all if one.wrong] + [f"in the end: {words}" for words in ends]

    @property
    def tone(self) -> Tone:
        """Red for any difference; green only where the end was seen."""
        if self.differences:
            return Tone.BAD
        if self.deed is None or self.deed.end == Deed.End.DUE:
            return Tone.BUSY
        return Tone.OK if self.deed.end == Deed.End.AS_PLANNED else Tone.IDLE

    @property
    def word(self) -> str:
        """The same in words."""
        if self.differences:
            return "differs from the plan"
        return "explained so far" if self.deed is None else EXPLAINED[Deed.End(self.deed.end)]

    @property
    def end(self) -> str:
        """What is known of what it left."""
        return END_WORDS.get(Deed.End(self.deed.end), "") if self.deed else ""

    @property
    def is_empty(self) -> bool:
        """Nothing was done yet that could be compared."""
        return not self.all and self.deed is None
