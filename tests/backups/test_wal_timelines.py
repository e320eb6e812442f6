"""A standby that was promoted goes on, on a timeline of its own, and so do its archive and its window."""

import pytest

from backups import wal_stream
from backups.catalog import enter
from backups.jobs import store_of
from backups.models import Policy, WalRange
from backups.wal import observe_streams
from backups.wal_receiver import Receiver
from backups.window import recoverable
from tests.backups.clusters import Source, archived, until
from tests.backups.test_pitr import notes, take


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_stream, "BEGINNING_SECONDS", 0.2)
    monkeypatch.setattr(wal_stream, "POLL_SECONDS", 0.2)


def test_a_promotion_leaves_no_gap(source: Source, pitr: Policy) -> None:
    with Receiver():
        source.write("one")
        until(WalRange.objects.exists)
        whole = take(pitr)
        backup = enter(whole, pitr.storage, pitr)
        source.fill(1)
        before = source.write("two")
        until(lambda: archived(pitr, before))
        source.postgres.stop()
        (source.postgres.folder / "standby.signal").touch()
        source.postgres.place.own(source.postgres.folder / "standby.signal")
        source.postgres._launch()
        until(source.postgres.answers)
        assert source.ask("SELECT pg_promote()")
        after = source.write("three")
        source.fill(1)
        last = source.write("four")
        until(lambda: archived(pitr, last))
        until(lambda: WalRange.objects.count() == 2)
        assert list(WalRange.objects.values_list("timeline", flat=True)) == [1, 2]
        assert observe_streams([pitr])[0].gaps == ()
    assert store_of(pitr).head(f"{pitr.prefix}wal/00000002.history.zst") is not None
    (window,) = recoverable(pitr)
    assert window.backup == backup.pk and window.since <= before < last <= window.until
    assert notes(pitr, [whole], before) == ["one", "two"]
    assert notes(pitr, [whole], after) == ["one", "two", "three"]
    assert notes(pitr, [whole], last) == ["one", "two", "three", "four"]
