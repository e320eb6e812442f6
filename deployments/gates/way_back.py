"""Whether one could go back: what runs is known and could be started again, and the data can be taken back.

Whether it could be started again only the place and the registry know, so they are asked before, outside of any
transaction (`look`), and the gate judges what they said. What was said of another release than runs there counts for
nothing.
"""

from dataclasses import dataclass

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Gate, Outcome
from deployments.by_digest import releases_with
from deployments.gates.known import Known
from deployments.models import Policy, Release
from environments.drivers import DRIVERS
from environments.drivers.base import Keeping, Software
from environments.models import Placement
from environments.targets import target_of

KEY, TITLE = "way-back", "The way back is open"


@dataclass(frozen=True)
class Look:
    """What a place said of the release that ran there. digest: of that release."""

    digest: str
    outcome: Outcome
    words: str


def former_at(placement: Placement) -> Release | None:
    """The release that runs there, if it is known."""
    if not placement.digest:
        return None
    there = releases_with(placement.service_id, [placement.digest], [placement.version])
    return there.select_related("report__pipeline").first()


def look(placement: Placement, policy: Policy, former: Release | None) -> Look | None:
    """Ask the place whether what runs there could be started again; None where its policy does not want to know.

    former: the release that runs there, see `former_at`.

    Network; call it outside a transaction. A place that does not answer is pending: it is asked again.
    """
    if former is None or not policy.way_back:
        return None
    driver = DRIVERS[placement.environment.driver]
    if not isinstance(driver, Keeping):
        words = f"nobody can say whether it is still there: the driver {driver.name} does not look. Take it out of the"
        return Look(former.digest, Outcome.FAILED, f"{words} policy.")
    try:
        software = Software(former.version, former.image, former.digest)
        kept = driver.kept(target_of(placement, configuration=""), software)
    except StepError as error:
        outcome = Outcome.FAILED if error.permanent else Outcome.PENDING
        again = "" if error.permanent else " It is asked again until it answers."
        return Look(former.digest, outcome, f"not proven: {error}{again}")
    return Look(former.digest, kept.outcome, kept.words)


def gates(release: Release, known: Known, seen: Look | None) -> list[Gate]:
    """Only what the policy asks for. seen: what the place said."""
    return [Gate(KEY, TITLE, *_judged(release, known, seen))] if known.policy.way_back else []


def _judged(release: Release, known: Known, seen: Look | None) -> tuple[Outcome, str]:
    if known.worst and (closed := _closed_by(known.worst, release)):
        return Outcome.FAILED, closed
    placement, former = known.placement, known.former
    if placement is None or not placement.digest:
        return Outcome.PASSED, "nothing runs there that one could go back to"
    if former is None:
        words = f"what runs there ({placement.digest[:19]}…) is no release that is known here. Add it first."
        return Outcome.FAILED, words
    if seen is None or seen.digest != former.digest:
        words = (
            f"whether {former.version} could be started again is asked of the place when the deployment is asked for"
        )
        return Outcome.PENDING, f"{words}, and again before it starts"
    if seen.outcome is not Outcome.PASSED:
        return seen.outcome, seen.words
    since = "the migrations since can be taken back" if known.worst else "which runs already, so nothing is migrated"
    return Outcome.PASSED, f"{former.version} is known, {since}, and {seen.words}"


def _closed_by(worst: Release, release: Release) -> str:
    """Why its migrations close the way, in words; "" when they do not. Those of skipped releases run along."""
    along = "" if worst == release else f", which lies on the way from what runs to {release.version},"
    if worst.migrations == Release.Migrations.ONE_WAY:
        return f"what {worst.version}{along} does to the database cannot be taken back. Split it, or break the glass."
    if worst.migrations == Release.Migrations.UNKNOWN:
        words = f"nobody said whether the migrations of {worst.version}{along} can be taken back."
        return f"{words} Have its pipeline say it."
    return ""
