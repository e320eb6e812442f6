"""The alerts of a rule: that it fires, and that it has no data, as the control plane's own source says them."""

from datetime import datetime

from django.urls import reverse

from incidents.intake.own import OwnAlert
from incidents.models import AlertRule, AlertSeverity, RuleState
from incidents.rules.conditions import ConditionError, parse
from incidents.rules.turns import Standing
from incidents.rules.wording import in_words

NO_DATA = "NoData"


def changes(before: Standing, after: Standing, row: RuleState) -> list[OwnAlert]:
    """What there is to say once it has turned. row: with its rule and environment, and the words of the last look."""
    said = []
    if (before.told_since is None) != (after.told_since is None):
        said.append(_firing(row, after.told_since or before.told_since, firing=after.told_since is not None))
    if (before.nodata_since is None) != (after.nodata_since is None):
        said.append(_no_data(row, after.nodata_since or before.nodata_since, firing=after.nodata_since is not None))
    return said


def over(row: RuleState) -> list[OwnAlert]:
    """What there is to take back when the rule no longer watches the environment."""
    said = [_firing(row, row.told_since, firing=False)] if row.told_since else []
    return said + ([_no_data(row, row.nodata_since, firing=False)] if row.nodata_since else [])


def _firing(row: RuleState, since: datetime | None, *, firing: bool) -> OwnAlert:
    rule = row.rule
    description = "; ".join(filter(None, [meaning(rule), row.words]))
    summary = rule.summary or row.words or rule.condition
    return _alert(row, rule.name, rule.severity, summary, description, since, "", firing=firing)


def meaning(rule: AlertRule) -> str:
    """Its condition in words; as it is written when it cannot be understood any more."""
    try:
        return in_words(parse(rule.condition))
    except ConditionError:
        return rule.condition


def _no_data(row: RuleState, since: datetime | None, *, firing: bool) -> OwnAlert:
    summary = f"{row.rule.name} cannot be evaluated in {row.environment.slug}: {row.words or 'data are missing'}"
    name = f"{row.rule.name}{NO_DATA}"
    return _alert(row, name, AlertSeverity.WARNING, summary, row.words, since, ":no-data", firing=firing)


def _alert(  # noqa: PLR0917 (one alert, told whole)
    row: RuleState,
    name: str,
    severity: str,
    summary: str,
    description: str,
    since: datetime | None,
    kind: str,
    *,
    firing: bool,
) -> OwnAlert:
    assert since is not None, "an alert that is out has a beginning"
    return OwnAlert(
        name=name,
        severity=severity,
        environment=row.environment.slug,
        summary=summary,
        labels=labels_of(row.rule, name, severity),
        annotations={"condition": row.rule.condition, "description": description},
        firing=firing,
        started_at=since,
        url=reverse("alert-rule", args=[row.rule.slug]),
        # Not its name, which may change while it is out.
        mark=f"rule:{row.rule.slug}:{row.environment.slug}{kind}",
    )


def labels_of(rule: AlertRule, name: str, severity: str) -> dict[str, str]:
    """The labels that its alerts carry, wherever they are evaluated; the environment comes on top."""
    return {"alertname": name, "severity": str(severity), "rule": rule.slug, "notify": ",".join(rule.notify)}
