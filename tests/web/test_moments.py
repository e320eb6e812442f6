"""Moments that people type: in UTC, and none that could be stored and never be read again."""

from datetime import UTC, datetime

import pytest
from django.core.exceptions import ValidationError

from controlplane.web.moments import MomentField, in_utc


def test_a_moment_is_taken_for_utc_unless_it_says_otherwise() -> None:
    field = MomentField()
    assert field.clean("2026-11-29T12:00") == datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert field.clean("2026-11-29T12:00:00+02:00") == datetime(2026, 11, 29, 10, tzinfo=UTC)
    assert MomentField(required=False).clean("") is None


@pytest.mark.parametrize("written", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_what_lies_outside_of_the_years_is_refused(written: str) -> None:
    with pytest.raises(ValidationError, match="before the year 1 or after the year 9999"):
        MomentField().clean(written)
    with pytest.raises(ValueError, match="before the year 1"):
        in_utc(datetime.fromisoformat(written))
