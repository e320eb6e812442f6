"""Taking back fields that others manage by now, by name: only those that the approved plan names, from whom it names.

Nothing is applied here and nothing of the object changes but who manages it. What the plan does not name stays with
whoever manages it, and refuses the apply that comes next.
"""

from collections.abc import Sequence

from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction
from environments.drivers.kubernetes.api import Api, Claim, Object
from environments.drivers.kubernetes.claims import handed_over
from environments.drivers.kubernetes.objects import api_at, guarded
from environments.drivers.telling import intend

TAKEN = "took back"
Fields = Sequence[dict[str, str]]


def _is_taken(context: StepContext, *, place: Arguments, kind: str, name: str, fields: Fields) -> Seen:
    with api_at(context, place) as api:
        found = _found(context, api, kind, name)
    if found is not None and handed_over(found, _claims(fields))[1]:
        return Seen.NOT_DONE
    _tell(context, place)
    return Seen.DONE


def _take(context: StepContext, *, place: Arguments, kind: str, name: str, fields: Fields) -> None:
    with api_at(context, place) as api:
        found = _found(context, api, kind, name)
        if found is None:
            return
        entries, taken = handed_over(found, _claims(fields))
        context.save_checkpoint(taking=[[claim.field, claim.manager] for claim in taken])
        intend(context)
        api.manage(found, entries)
    _tell(context, place)
    said = ", ".join(f"{claim.field} from {claim.manager}" for claim in taken)
    context.log(f"took back of {kind} {name}: {said}")


def _tell(context: StepContext, place: Arguments) -> None:
    """Each field that was meant to be taken, once, also by who finds that an earlier attempt took it."""
    if not context.checkpoint.get("meant") or context.checkpoint.get("told"):
        return
    with context.together():
        for field, manager in context.checkpoint["taking"]:
            context.did(TAKEN, place["instance"], field=field, manager=manager)
        context.save_checkpoint(told=True)


def _found(context: StepContext, api: Api, kind: str, name: str) -> Object | None:
    found = guarded(context, api.find(kind, name))
    return {"kind": kind, **found} if found is not None else None


def _claims(fields: Fields) -> list[Claim]:
    return [Claim(one["field"], one["manager"]) for one in fields]


STEPS = {"kubernetes.take": StepFunction(observe=_is_taken, act=_take)}
