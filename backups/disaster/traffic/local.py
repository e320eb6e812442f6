"""The local name switch as traffic of a recovery plan: a name of names.json stands for one site, or for nobody.

A change is the file's; that it has arrived is seen by asking the switch itself, as people's requests do. The settings:

    name      the public name ("api.pitchey.com")
    ttl       seconds for which a resolver believes what it heard; 2 by default
    database  of a side: a secret reference to the database that its applications write to
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from backups.disaster.base import NOT_READY, READY, UNKNOWN, Check, Fence, Part, Side
from backups.disaster.traffic.names import changing, entry_of
from controlplane.embedded.name_switch import ASK, SITE_HEADER
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.plans import Arguments, Retry, StepSpec
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed, pending
from environments.addresses import Answer, NoAnswer, get
from environments.drivers.ports import address_for
from environments.models import Placement
from environments.secrets import problem_with

GROUP = "Traffic"
TTL_SECONDS = 2.0
# The guide switches a record of 60 s: people must not wait longer for the new side.
HIGHEST_TTL = 60.0
TIMEOUT = 60.0
AGAIN = Retry(attempts=3, wait=1.0)
OWN = {"name", "ttl", "database"}
# Addresses "from outside" that the plan itself asks.
OTHERS = {"url", "drill_url", "primary", "standby"}


class LocalTraffic:
    """See `base.Traffic`."""

    kind = "local"

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = {
            "local-names.withdraw": StepFunction(observe=_is_withdrawn, act=_withdraw),
            "local-names.withdrawn": StepFunction(act=_nothing, verify=_sends_elsewhere, poll=0.2),
            "local-names.switch": StepFunction(observe=_is_switched, act=_switch, verify=_sends_there, poll=0.2),
            "local-names.verify": StepFunction(act=_nothing, verify=_answers_from_there, poll=0.2),
            "local-names.forget": StepFunction(observe=_is_forgotten, act=_forget, verify=_is_silent, poll=0.2),
        }

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a plan's `traffic`, in words, by key."""
        wrong = dict.fromkeys(given.keys() - OWN - OTHERS, "is no setting of it; there are name, ttl and database")
        for table in ("primary", "standby"):
            own = given.get(table, {})
            if not isinstance(own, dict):
                wrong[table] = "has to be a table"
                continue
            wrong |= {f"{table}.{key}": words for key, words in _wrong_values(own).items()}
        wrong |= _wrong_values(given)
        return wrong | ({} if given.get("name") else {"name": "is missing: the public name"})

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """The switch answers and sends people to the source now; a change would be there soon."""
        return [_switch_check(source), _ttl_check(source), _place_check(target)]

    def withdraw(self, source: Side) -> Fence:
        """The name stands for nobody until the switch."""
        arguments = {"name": _name(source), "site": source.environment}
        act = StepSpec("traffic/withdraw", f"let {_name(source)} stand for nobody", "local-names.withdraw", arguments,
                       GROUP, TIMEOUT, AGAIN)  # fmt: skip
        prove = StepSpec("traffic/withdrawn", f"see that {_name(source)} leads to {source.environment} no more",
                         "local-names.withdrawn", arguments, GROUP, TIMEOUT, AGAIN)  # fmt: skip
        return Fence((act,), (prove,))

    def switch(self, source: Side, target: Side, *, drill: str = "") -> Part:
        """The name stands for the target; a drill's name stands for it beside that, and is taken away afterwards."""
        name = drill or _name(target)
        there = {"name": name, "site": target.environment}
        change = {
            **there,
            "instead_of": [] if drill else [source.environment],
            "ttl": _ttl(target),
            # Nobody writes to the real database by a drill's name.
            "database": "" if drill else str(target.settings.get("database", "")),
        }
        switch = StepSpec("traffic/switch", f"let {name} stand for {target.environment}", "local-names.switch", change,
                          GROUP, TIMEOUT, AGAIN)  # fmt: skip
        verify = StepSpec("traffic/verify", f"ask {target.environment} by {name}", "local-names.verify",
                          {**there, "path": "/health"}, GROUP, TIMEOUT, AGAIN)  # fmt: skip
        forget = StepSpec("traffic/forget", f"take {name} away", "local-names.forget", {"name": name}, GROUP, TIMEOUT,
                          AGAIN)  # fmt: skip
        changes = {"what": name, "from": "nobody" if drill else source.environment, "to": target.environment}
        return Part(open=(switch,), verify=(verify,), cleanup=(forget,) if drill else (), changes=(changes,))

    def outside(self, target: Side, drill: str) -> str:
        """The address under which people find the target after the switch."""
        return f"{address_of(drill or _name(target))}/health"


def _wrong_values(given: Mapping[str, Any]) -> dict[str, str]:
    wrong = {}
    if "name" in given and not (isinstance(given["name"], str) and given["name"]):
        wrong["name"] = 'has to be a name, as in "api.pitchey.com"'
    ttl = given.get("ttl", TTL_SECONDS)
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 <= ttl <= 86_400:
        wrong["ttl"] = "has to be a number of seconds from 0 to 86400"
    database = given.get("database", "")
    if not isinstance(database, str) or (database and problem_with(database)):
        wrong["database"] = 'has to be a secret reference, as in "file:production/orders-url"'
    return wrong


def _name(side: Side) -> str:
    return str(side.settings["name"])


def _ttl(side: Side) -> float:
    return float(side.settings.get("ttl", TTL_SECONDS))


def address_of(name: str) -> str:
    """Where the switch listens for a name; the same each time."""
    return address_for("names", name)


def instances_of(environment: str) -> list[str]:
    """The addresses of all instances of an environment's services."""
    rows = Placement.objects.filter(environment__slug=environment).order_by("pk")
    return [one["address"] for row in rows for one in row.instances if one.get("address")]


# --- readiness ----------------------------------------------------------------------------------------


def _switch_check(source: Side) -> Check:
    name, title = _name(source), "Name switch"
    try:
        site = _site(_ask(name, ASK))
    except (NoAnswer, StepError) as error:
        return Check("name-switch", title, UNKNOWN, f"The switch does not answer for {name}: {error}. Does it run?")
    if site != source.environment:
        words = f"{name} stands for {site or 'nobody'}, not for {source.environment}. Put that right first."
        return Check("name-switch", title, NOT_READY, words)
    return Check("name-switch", title, READY, f"{name} stands for {site}")


def _ttl_check(source: Side) -> Check:
    title = "Time to live"
    try:
        ttl = float(entry_of(_name(source)).get("ttl", 0.0))
    except StepError as error:
        return Check("ttl", title, UNKNOWN, str(error))
    if ttl > HIGHEST_TTL:
        words = f"Resolvers believe the old side for {ttl:g} s. Lower the ttl to {HIGHEST_TTL:g} s at most."
        return Check("ttl", title, NOT_READY, words)
    return Check("ttl", title, READY, f"{ttl:g} s")


def _place_check(target: Side) -> Check:
    title, count = "Instances behind the name", len(instances_of(target.environment))
    if not count:
        words = f"{target.environment} has no instances with an address. Declare them."
        return Check("name-instances", title, NOT_READY, words)
    folder = Path(settings.DATA_DIR)
    try:
        (folder / "names.lock").touch()
    except OSError as error:
        return Check("name-instances", title, NOT_READY, f"{folder} cannot be written: {error.strerror}.")
    return Check("name-instances", title, READY, f"{count} in {target.environment}")


# --- the steps ----------------------------------------------------------------------------------------


def _ask(name: str, path: str) -> Answer:
    return get(f"{address_of(name)}{path}")


def _site(answer: Answer) -> str:
    return answer.headers.get(SITE_HEADER.lower(), "")


def _nothing(context: StepContext, **rest: Any) -> None:
    """There is only something to see."""


def _is_withdrawn(context: StepContext, *, name: str, site: str) -> Seen:
    try:
        return Seen.NOT_DONE if entry_of(name).get("site", "") == site else Seen.DONE
    except StepError:
        return Seen.NOT_DONE


def _withdraw(context: StepContext, *, name: str, site: str) -> None:
    try:
        with changing(name, context) as entry:
            if entry.get("site") == site:
                entry["site"] = ""
    except StepError as error:
        context.log(f"{name} cannot be changed: {error} Whether it leads there is seen later.", level="warning")
        return
    context.log(f"{name} stands for nobody")


def _sends_elsewhere(context: StepContext, *, name: str, site: str) -> Verdict:
    """A switch that refuses connections sends nobody anywhere, and reads the file when it comes back; one that is
    silent may be only slow.
    """
    try:
        stands_for = _site(_ask(name, ASK))
    except NoAnswer as error:
        if "refused" in str(error) and _is_withdrawn(context, name=name, site=site) is Seen.DONE:
            return passed(f"nobody listens for {name}")
        words = f"The name switch does not answer for {name} ({error}). Does anybody still reach {site} by that name?"
        raise Unknown(words) from error
    if stands_for == site:
        return pending(f"{name} still leads to {site}: what was heard is believed for a while")
    context.log(f"{name} leads to {stands_for or 'nobody'}")
    return passed()


def _is_switched(context: StepContext, *, name: str, site: str, database: str, **rest: Any) -> Seen:
    entry = entry_of(name)
    there = {"instances": instances_of(site), "database": database}
    done = entry.get("port") and entry.get("site") == site and entry.get("sites", {}).get(site) == there
    return Seen.DONE if done else Seen.NOT_DONE


def _switch(context: StepContext, *, name: str, site: str, instead_of: list[str], ttl: float, database: str) -> None:
    """From the old site or from nobody; whoever else people are sent to by now is somebody's decision."""
    port = int(address_of(name).rpartition(":")[2])
    instances = instances_of(site)
    with changing(name, context) as entry:
        before = entry.get("site", "")
        if before not in ("", site, *instead_of):
            words = f"{name} stands for {before} by now, which this plan knows nothing of. Look who sent people there."
            raise StepError(words, permanent=True)
        sites: Arguments = entry.setdefault("sites", {})
        sites[site] = {"instances": instances, "database": database}
        entry |= {"port": port, "ttl": ttl, "site": site}
    context.log(f"{name}: {before or 'nobody'} → {site}")


def _sends_there(context: StepContext, *, name: str, site: str, **rest: Any) -> Verdict:
    try:
        stands_for = _site(_ask(name, ASK))
    except NoAnswer as error:
        return pending(f"the name switch does not answer for {name} ({error})")
    return passed() if stands_for == site else pending(f"{name} still leads to {stands_for or 'nobody'}")


def _answers_from_there(context: StepContext, *, name: str, site: str, path: str) -> Verdict:
    """By the way that people's requests take."""
    try:
        answer = _ask(name, path)
    except NoAnswer as error:
        return pending(f"{name}{path}: {error}")
    if _site(answer) != site:
        return pending(f"{name} still leads to {_site(answer) or 'nobody'}")
    if answer.status != 200:
        return pending(f"{name}{path} answers {answer.status} from {site}")
    context.log(f"{name}{path} → 200 from {site} in {answer.latency_ms:.0f} ms")
    return passed()


def _is_forgotten(context: StepContext, *, name: str) -> Seen:
    return Seen.NOT_DONE if entry_of(name).get("port") else Seen.DONE


def _forget(context: StepContext, *, name: str) -> None:
    with changing(name, context) as entry:
        entry.clear()
    context.log(f"{name} is gone")


def _is_silent(context: StepContext, *, name: str) -> Verdict:
    try:
        _ask(name, ASK)
    except NoAnswer as error:
        silent = "refused" in str(error)
        return passed() if silent else pending(f"it is not seen whether {name} is gone ({error})")
    return pending(f"the name switch still answers for {name}")
