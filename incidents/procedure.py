"""The guide's incident response procedure as data: five phases with their checklists, and severity from two grades."""

from incidents.models import ChecklistItem, Grade, Incident, Phase, Severity

# The guide, "Incident Response Procedure".
CHECKLISTS: dict[Phase, tuple[str, ...]] = {
    Phase.DETECTION: ("Alert received from monitoring, or reported by somebody", "Confirmed that it is real"),
    Phase.TRIAGE: (
        "Severity assessed (P1–P4)",
        "Impact analysed: who cannot do what",
        "Initial diagnosis written down",
    ),
    Phase.RESPONSE: (
        "Incident team activated: commander, communications, scribe",
        "Mitigation begun",
        "Status communicated",
    ),
    Phase.RESOLUTION: ("Fix applied", "Resolution verified", "Watched for recurrence"),
    Phase.POST_MORTEM: (
        "Root cause analysed",
        "Lessons learned documented",
        "Preventive measures have owners and dates",
    ),
}

_MATRIX = {
    (Grade.HIGH, Grade.HIGH): Severity.P1,
    (Grade.HIGH, Grade.MEDIUM): Severity.P2,
    (Grade.HIGH, Grade.LOW): Severity.P3,
    (Grade.MEDIUM, Grade.HIGH): Severity.P2,
    (Grade.MEDIUM, Grade.MEDIUM): Severity.P3,
    (Grade.MEDIUM, Grade.LOW): Severity.P4,
    (Grade.LOW, Grade.HIGH): Severity.P3,
    (Grade.LOW, Grade.MEDIUM): Severity.P4,
    (Grade.LOW, Grade.LOW): Severity.P4,
}


def severity_of(impact: Grade, urgency: Grade) -> Severity:
    """P1 to P4 by impact and urgency."""
    return _MATRIX[impact, urgency]


def grades_of(severity: Severity) -> tuple[Grade, Grade]:
    """Impact and urgency that an alert of this severity stands for, until a person assesses them."""
    return next(grades for grades, found in _MATRIX.items() if found == severity)


def start_checklist(incident: Incident) -> None:
    """Give a new incident the guide's lists."""
    lines = [(phase, text) for phase, texts in CHECKLISTS.items() for text in texts]
    ChecklistItem.objects.bulk_create(
        ChecklistItem(incident=incident, phase=phase, position=position, text=text)
        for position, (phase, text) in enumerate(lines)
    )
