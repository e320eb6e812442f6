"""Which alerts become which incident: the first rule by position whose matchers all hold decides."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from incidents.intake.matchers import hold
from incidents.models import ChannelKind, IncidentRule, Severity

LONGEST_KEY = 300
LONGEST_TITLE = 300
_BLANK = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PLAIN = re.compile(r"[^,=\"\s][^,=\"]*")
# Whom to tell once is said by the alert; people's telephones are the escalation's.
NOTICES = (ChannelKind.SLACK, ChannelKind.EMAIL, ChannelKind.WEBHOOK)


@dataclass(frozen=True)
class Verdict:
    """What a rule makes of an alert: nothing, or a part of the incident of this key."""

    key: str
    title: str
    severity: Severity


def judge(rules: Iterable[IncidentRule], labels: Mapping[str, str]) -> Verdict | None:
    """The incident an alert belongs to; None when no rule wants one."""
    rule = next((one for one in rules if hold(one.matchers, labels)), None)
    if rule is None or not rule.severity:
        return None
    return Verdict(key_of(rule, labels), title_of(rule, labels), Severity(rule.severity))


def key_of(rule: IncidentRule, labels: Mapping[str, str]) -> str:
    """What its alerts have in common: rule:label=value,…; hashed when it is too long for the column."""
    values = ",".join(f"{label}={_value(labels.get(label, ''))}" for label in rule.group_by)
    key = f"{rule.slug}:{values}"
    if len(key) <= LONGEST_KEY:
        return key
    return f"{rule.slug}:{hashlib.sha256(key.encode(errors='replace')).hexdigest()}"


def title_of(rule: IncidentRule, labels: Mapping[str, str]) -> str:
    """The rule's title with the labels filled in; without one, what fires and where."""
    place = " in {environment}" if labels.get("environment") else ""
    template = rule.title or "{alertname}" + place
    filled = _BLANK.sub(lambda found: labels.get(found[1]) or f"no {found[1]}", template)
    return filled.strip()[:LONGEST_TITLE] or "An alert without a name"


def notices_of(labels: Mapping[str, str]) -> list[str]:
    """The channels that many people read, out of an alert's `notify`: "pagerduty,slack"."""
    wanted = [one.strip() for one in labels.get("notify", "").split(",")]
    return [kind for kind in NOTICES if kind in wanted]


def _value(text: str) -> str:
    return text if not text or _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
