"""The rules as files for Prometheus and Alertmanager, for who has them evaluated there.

`promtool check rules` and `amtool check-config` accept what comes out. The alerts that then arrive carry the same
labels as our own, so both meet in one incident.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin

import yaml
from django.conf import settings

from incidents.models import AlertRule, AlertSeverity
from incidents.rules.alerts import NO_DATA, labels_of
from incidents.rules.conditions import parse
from incidents.rules.durations import written
from incidents.rules.promql import absence, expression
from incidents.rules.turns import PATIENCE
from incidents.rules.watched import watched_by
from incidents.rules.wording import in_words

# Where alerts arrive (incidents/intake), and the file on the Alertmanager's computer that holds its token.
INTAKE = "/intake/alertmanager"
CREDENTIALS = "/etc/prometheus/controlplane-token"
RECEIVER = "controlplane"
FORMATS = ("prometheus", "alertmanager")


def exported(form: str, *, credentials: str = CREDENTIALS, url: str = "") -> str:
    """The file of one of FORMATS. url: of this control plane, when Alertmanager finds it elsewhere than people do."""
    if form == "alertmanager":
        return alertmanager(credentials=credentials, url=url or settings.SITE_URL)
    return prometheus(AlertRule.objects.filter(paused=False))


def prometheus(rules: Iterable[AlertRule]) -> str:
    """A rule file: each rule, and for each environment that it watches an alert when it has no data there."""
    groups = [{"name": "controlplane", "rules": [one for rule in rules for one in _rules(rule)]}]
    return _file(
        "Alert rules of the control plane (manage.py export_rules); do not edit them here.", {"groups": groups}
    )


def _rules(rule: AlertRule) -> list[dict[str, Any]]:
    condition = parse(rule.condition)
    found = [
        {
            "alert": rule.name,
            "expr": expression(condition, _where(rule.environments)),
            "for": written(rule.for_seconds),
            "labels": _labels(rule, rule.name, rule.severity),
            "annotations": {
                "summary": _literal(rule.summary or rule.condition),
                "description": _literal(f"{in_words(condition)} in ") + "{{ $labels.environment }}: {{ $value }}",
                "condition": _literal(rule.condition),
            },
        }
    ]
    return [*found, *(_no_data(rule, slug) for slug in watched_by(rule))]


def _no_data(rule: AlertRule, environment: str) -> dict[str, Any]:
    name = f"{rule.name}{NO_DATA}"
    return {
        "alert": name,
        "expr": absence(parse(rule.condition), environment),
        "for": written(max(rule.for_seconds, PATIENCE.seconds)),
        "labels": _labels(rule, name, AlertSeverity.WARNING) | {"environment": environment},
        "annotations": {"summary": f"{rule.name} cannot be evaluated in {environment}: data are missing"},
    }


def _where(environments: list[str]) -> str:
    """Matchers for the environments that a rule names. Slugs need no quoting in a regular expression."""
    if len(environments) == 1:
        return f'environment="{environments[0]}"'
    return f'environment=~"{"|".join(environments)}"' if environments else ""


def _labels(rule: AlertRule, name: str, severity: str) -> dict[str, str]:
    """Without the name, which Prometheus adds itself."""
    return {key: value for key, value in labels_of(rule, name, severity).items() if key != "alertname"}


def _literal(text: str) -> str:
    """Words that Prometheus shall not take for a template."""
    return text.replace("{{", '{{ "{{" }}')


def alertmanager(*, credentials: str, url: str) -> str:
    """A configuration: critical alerts are told at once and again every five minutes, others with more patience."""
    by_severity = [
        (AlertSeverity.CRITICAL, "0s", "10s", "5m"),
        (AlertSeverity.WARNING, "10s", "1m", "1h"),
        (AlertSeverity.INFO, "30s", "5m", "12h"),
    ]
    routes = [
        {"receiver": RECEIVER, "matchers": [f'severity="{severity}"'], "group_wait": wait, "group_interval": interval,
         "repeat_interval": repeat}
        for severity, wait, interval, repeat in by_severity
    ]  # fmt: skip
    hook = {
        "url": urljoin(f"{url}/", INTAKE),
        "send_resolved": True,
        "http_config": {"authorization": {"type": "Bearer", "credentials_file": credentials}},
    }
    return _file(
        f"Alertmanager for the control plane. Its token belongs into {credentials}.",
        {
            "route": {"receiver": RECEIVER, "group_by": ["alertname", "environment"], "routes": routes},
            "receivers": [{"name": RECEIVER, "webhook_configs": [hook]}],
        },
    )


def _file(comment: str, content: dict[str, Any]) -> str:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    return f"# {' '.join(comment.split())}\n{text}"
