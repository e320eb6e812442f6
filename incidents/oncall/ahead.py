"""Looking a week ahead: what would go wrong with a rotation is an alert while there is time to mend it."""

from hashlib import sha256

from controlplane.clock.database import database_time
from incidents.intake.own import OwnAlert, firing_of, say_news
from incidents.models import Schedule
from incidents.oncall.problems import AHEAD, Problem, problems_of
from incidents.oncall.rows import rotas

MARK = "on-call:"
NAME = "OnCallGap"
NAMES = {"gap": NAME, "unknown": "OnCallUnknownPerson", "inactive": "OnCallInactivePerson",
         "unreachable": "OnCallUnreachablePerson"}  # fmt: skip
SAID_AT_MOST = 3


def look_ahead() -> int:
    """Raise what is wrong within a week, and end what was mended (the clock calls it); how many alerts moved."""
    now = database_time()
    schedules = list(Schedule.objects.all())
    wrong = problems_of(rotas(schedules, now, now + AHEAD), now, now + AHEAD)
    firing = firing_of(MARK)
    found = []
    for schedule in schedules:
        kinds: dict[tuple[str, str], list[Problem]] = {}
        for problem in wrong[schedule.slug]:
            kinds.setdefault((problem.kind, problem.person), []).append(problem)
        for (kind, person), same in kinds.items():
            mark = mark_of(schedule.slug, kind, person)
            known = firing.get(mark)
            found.append(
                OwnAlert(
                    name=NAMES[kind], severity="warning", firing=True, mark=mark,
                    summary=f"{schedule.name}: {_told(same)}", started_at=known.started_at if known else now,
                    labels={"schedule": schedule.slug, **({"person": person} if person else {})},
                    url=schedule.get_absolute_url(),
                )
            )  # fmt: skip
    return say_news(found, firing)


def mark_of(slug: str, kind: str, person: str) -> str:
    """What makes it the same alert each time it is found."""
    return MARK + sha256(f"{slug}/{kind}/{person}".encode()).hexdigest()[:40]


def _told(same: list[Problem]) -> str:
    more = f", and {len(same) - SAID_AT_MOST} times more" if len(same) > SAID_AT_MOST else ""
    return "; ".join(one.words for one in same[:SAID_AT_MOST]) + more
