import pytest

from environments.drivers import DRIVERS
from tests.estate import Estate, build, paper


@pytest.fixture
def estate(db: None, monkeypatch: pytest.MonkeyPatch) -> Estate:
    """Staging and production on a driver of paper."""
    monkeypatch.setitem(DRIVERS, "paper", paper)
    return build()
