"""Sending people to a side without any control plane of Route 53: failover records whose health check follows a flag.

The flag is an object of S3 or an alarm of CloudWatch in the region that is to survive. It is raised for the standby
and lowered for the primary; Route 53's health checkers see it from all over the world and answer names accordingly,
which goes on working when nothing of Route 53 can be changed. docs/disaster-recovery-aws.md has the records, the
health check and the alarm that have to be there beforehand.
"""

from collections.abc import Callable, Mapping
from typing import Any

from backups.disaster.base import Check, Fence, Part, Side
from backups.disaster.patience import mask, patiently
from backups.disaster.traffic.route53 import check_of, check_sides, problem_of
from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments, Retry, StepSpec
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed, pending
from environments.aws import CHANGE_ATTEMPTS, READ_ATTEMPTS, Account, code_of, in_words, other, s3
from environments.aws_checks import Finding, permissions

GROUP = "Traffic"
ATTEMPTS = 8
CALL = 300.0
ACCOUNT: Arguments = {"region": "", "endpoint_url": "", "access_key": "", "secret_key": "", "answer_seconds": 20.0}
DEFAULTS: Arguments = {
    **ACCOUNT,
    "by": "object",
    "bucket": "",
    "key": "",
    "path_style": False,
    "alarm": "",
    "raised": False,  # of the side: whether the flag is up while it serves
    "drill_key": "",
    "drill_alarm": "",
    "url": "",
    "drill_url": "",
    "retry_seconds": 2.0,
}
BY = ("object", "alarm")
NEEDED = {"object": ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
          "alarm": ("cloudwatch:DescribeAlarms", "cloudwatch:SetAlarmState")}  # fmt: skip
MISSING = ("404", "NoSuchKey", "NotFound")
BODY = b"People are sent to the standby while this object is here.\n"


class FlagTraffic:
    """See `base.Traffic`."""

    kind = "flag"

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = STEPS

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a plan's `traffic`, in words, by key."""
        wrong = check_sides(given, _wrong_in)
        if wrong:
            return wrong
        up = [given[name].get("raised") if name in given else None for name in ("primary", "standby")]
        if set(up) != {True, False}:
            return {"raised": "has to be said by each side: true by one of them, false by the other"}
        return {}

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Could the flag be changed now, and does it say what is so? Never raises."""
        needed = NEEDED[_of(target, "by")]
        looks: list[tuple[str, str, Callable[[], Finding]]] = [
            ("flag", "the flag", lambda: _what_it_says(source)),
            ("permissions", "what the control plane may do", lambda: permissions(Account.of(_flag(target)), needed)),
        ]
        return [check_of(f"traffic/{key}", title, ask) for key, title, ask in looks]

    def withdraw(self, source: Side) -> Fence:
        """Nothing: one flag takes the old side out and the new one in."""
        return Fence()

    def switch(self, source: Side, target: Side, *, drill: str = "") -> Part:
        """Raise or lower the flag; a drill has its own, where there is one, and it is lowered again."""
        flag = _flag(target, drill=bool(drill))
        if not flag["name"]:
            return Part()
        up = True if drill else bool(_of(target, "raised"))
        verb = "raise" if up else "lower"
        setting = _spec(target, "flag", f"{verb} the flag {flag['name']}", "flag.set", flag=flag, raised=up)
        stands = _spec(target, "stands", "see that the flag stays so", "flag.stands", flag=flag, raised=up)
        away = _spec(target, "lower", f"lower the flag {flag['name']}", "flag.set", flag=flag, raised=False)
        row = {"what": f"flag {flag['name']}", "from": _word(not up), "to": f"{_word(up)}: {target.environment} serves"}
        return Part((setting,), verify=(stands,), cleanup=(away,) if drill else (), changes=(row,))


# --- settings -------------------------------------------------------------------------------------------


def _of(side: Side, key: str) -> Any:
    return side.settings.get(key, DEFAULTS[key])


def _word(up: bool) -> str:
    return "raised" if up else "lowered"


def _wrong_in(given: Mapping[str, Any]) -> dict[str, str]:
    wrong = {key: f"is no setting of it; there are {', '.join(DEFAULTS)}" for key in given.keys() - DEFAULTS.keys()}
    known = {key: value for key, value in given.items() if key in DEFAULTS}
    wrong |= {key: words for key, value in known.items() if (words := problem_of(key, value, DEFAULTS[key]))}
    by = given.get("by", "object")
    if by not in BY:
        return {**wrong, "by": f"has to be {' or '.join(BY)}"}
    needed = ("region", "bucket", "key") if by == "object" else ("region", "alarm")
    wrong |= {key: "is missing" for key in needed if not given.get(key)}
    if bool(given.get("access_key")) != bool(given.get("secret_key")):
        wrong |= {"secret_key": "belongs together with access_key: give both or neither"}
    return wrong


def _flag(side: Side, *, drill: bool = False) -> Arguments:
    """Where the flag is, and how to ask. Raises StepError when the settings do not say."""
    if wrong := _wrong_in(side.settings):
        words = "; ".join(f"{key} {reason}" for key, reason in wrong.items())
        raise StepError(f"The traffic settings of {side.environment} need a correction: {words}.", permanent=True)
    by = _of(side, "by")
    setting = {"object": "key", "alarm": "alarm"}[by]
    account = {key: _of(side, key) for key in ACCOUNT}
    name = _of(side, f"drill_{setting}" if drill else setting)
    return {**account, "by": by, "bucket": _of(side, "bucket"), "path_style": _of(side, "path_style"), "name": name}


def _spec(side: Side, key: str, title: str, function: str, **arguments: Any) -> StepSpec:
    retry = Retry(ATTEMPTS, _of(side, "retry_seconds"))
    return StepSpec(f"traffic/{key}", title, function, arguments, GROUP, CALL, retry)


# --- the flag -------------------------------------------------------------------------------------------


def _is_up(flag: Arguments) -> bool:
    """Whether it is raised now. Raises StepError."""
    account = Account.of(flag)
    if flag["by"] == "alarm":
        return str(_alarm(account, flag["name"])["StateValue"]) == "ALARM"
    words = f"{flag['name']} in {flag['bucket']} ({account.region})"
    try:
        with in_words("s3:HeadObject", words):
            s3(account, READ_ATTEMPTS, path_style=flag["path_style"]).head_object(
                Bucket=flag["bucket"], Key=flag["name"]
            )
    except StepError as error:
        if code_of(error) in MISSING:
            return False
        raise
    return True


def _alarm(account: Account, name: str) -> Mapping[str, Any]:
    with in_words("cloudwatch:DescribeAlarms", f"alarm {name} ({account.region})"):
        answer = other("cloudwatch", account, READ_ATTEMPTS).describe_alarms(AlarmNames=[name])
    found = [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
    if not found:
        raise StepError(f"There is no alarm {name} in {account.region}. Make it as the docs say.", permanent=True)
    return dict(found[0])


def _put(flag: Arguments, up: bool) -> None:
    account = Account.of(flag)
    if flag["by"] == "alarm":
        with in_words("cloudwatch:SetAlarmState", f"alarm {flag['name']} ({account.region})"):
            other("cloudwatch", account, CHANGE_ATTEMPTS).set_alarm_state(
                AlarmName=flag["name"], StateValue="ALARM" if up else "OK", StateReason="by the control plane"
            )
        return
    client = s3(account, CHANGE_ATTEMPTS, path_style=flag["path_style"])
    words = f"{flag['name']} in {flag['bucket']} ({account.region})"
    with in_words(f"s3:{'PutObject' if up else 'DeleteObject'}", words):
        if up:
            client.put_object(Bucket=flag["bucket"], Key=flag["name"], Body=BODY, ContentType="text/plain")
        else:
            client.delete_object(Bucket=flag["bucket"], Key=flag["name"])


def _what_it_says(source: Side) -> Finding:
    flag = _flag(source)
    up, wanted = _is_up(flag), bool(_of(source, "raised"))
    if up != wanted:
        return Finding(False, f"{flag['name']} is {_word(up)}, which does not send people to {source.environment}.")
    if flag["by"] == "alarm" and _alarm(Account.of(flag), flag["name"]).get("TreatMissingData") != "ignore":
        words = f"{flag['name']} would go back by itself: let it treat missing data as “ignore”, and give it no data"
        return Finding(False, f"{words}.")
    return Finding(True, f"{flag['name']} is {_word(up)} in {flag['region']}: {source.environment} serves.")


# --- steps ----------------------------------------------------------------------------------------------


def _is_set(context: StepContext, *, flag: Arguments, raised: bool) -> Seen:
    mask(context, Account.of(flag).keys())
    if _is_up(flag) != raised:
        return Seen.NOT_DONE
    context.log(f"{flag['name']} is {_word(raised)}")
    return Seen.DONE


def _set(context: StepContext, *, flag: Arguments, raised: bool) -> None:
    mask(context, Account.of(flag).keys())
    context.check()
    _put(flag, raised)
    context.log(f"{_word(raised)} {flag['name']} in {flag['region']}")


def _nothing(context: StepContext, **arguments: Any) -> None:
    """Waiting has no effect."""


def _does_stand(context: StepContext, *, flag: Arguments, raised: bool) -> Verdict:
    def look() -> Verdict:
        words = f"{flag['name']} is {_word(_is_up(flag))}"
        return passed(words) if words.endswith(_word(raised)) else pending(f"{words} again")

    return patiently(context, look)


STEPS = {
    "flag.set": StepFunction(observe=_is_set, act=_set),
    "flag.stands": StepFunction(act=_nothing, verify=_does_stand, poll=0.0),
}
