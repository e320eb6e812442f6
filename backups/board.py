"""What the board says of backups: one line of the matrix, and a card for each alert."""

from django.urls import reverse

from backups.models import BackupAlert
from backups.overview import Site, overview
from controlplane.accounts.access import Actor
from controlplane.web.templatetags.ui import duration, promised
from controlplane.web.tones import Tone
from environments.cards import Card, Contribution, LineCell
from environments.models import Environment

AT_MOST = 6


def protection(actor: Actor, environments: list[Environment]) -> Contribution:
    """Are we protected? By environment: how far back one can go, proven when, in how long."""
    sites = overview(actor)
    cells = {site.environment.slug: _cell(site) for site in sites}
    alerts = [(site, alert) for site in sites for alert in site.alerts]
    return Contribution("Backups", "what could be restored now", cells, _cards(alerts))


def _cell(site: Site) -> LineCell:
    url = f"{reverse('backups')}#{site.environment.slug}"
    best = site.database
    if best is None:
        return LineCell(site.tone, "no database backup yet", "", url)
    lost = f"RPO {duration(best.rpo.now)} of {promised(best.rpo.promised)}"
    until = ("restorable to", best.restorable_to) if best.restorable_to else None
    proven = site.proven
    if proven is None or proven.tested_at is None or site.rto is None:
        return LineCell(site.tone if site.tone != Tone.OK else Tone.WAIT, "not proven yet", lost, url, until)
    takes = f"RTO {duration(site.rto.now)} of {promised(site.rto.promised)}"
    return LineCell(site.tone, _word(site), f"{lost}, {takes}", url, until, ("proven", proven.tested_at))


def _word(site: Site) -> str:
    if site.alerts:
        return str(site.alerts[0].get_kind_display())
    worst = next((one for one in site.policies if one.tone == site.tone), None)
    return worst.word if worst and site.tone not in (Tone.OK, Tone.BUSY) else "protected"


def _cards(alerts: list[tuple[Site, BackupAlert]]) -> list[Card]:
    if len(alerts) > AT_MOST:
        text = ", ".join(f"{site.environment.slug}: {alert.get_kind_display()}" for site, alert in alerts[:3])
        return [Card(Tone.BAD, f"{len(alerts)} things are wrong with backups", text, reverse("backups"))]
    return [Card(Tone.BAD, f"{alert.policy}: {alert.get_kind_display()}", alert.words, alert.policy.get_absolute_url())
            for _, alert in alerts]  # fmt: skip
