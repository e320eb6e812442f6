"""Moments as people and programs send them: in UTC, within the years that can be read again from the database."""

from datetime import UTC, datetime
from typing import Annotated, Any

from django import forms
from pydantic import AfterValidator, AwareDatetime, Field


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC. Raises ValueError, in words, where there is none: PostgreSQL would keep it all the
    same, and nothing in Python could read the row ever again.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("In UTC this moment is before the year 1 or after the year 9999") from error


# In the body of a request: ISO 8601 with its offset.
Moment = Annotated[AwareDatetime, Field(strict=False), AfterValidator(in_utc)]


class MomentField(forms.DateTimeField):
    """A moment in a form. seconds: whether the browser asks for them. Who writes by hand may give it an offset."""

    def __init__(self, *, seconds: bool = False, **options: Any) -> None:
        step = {"step": "1"} if seconds else {}
        written = "%Y-%m-%dT%H:%M:%S" if seconds else "%Y-%m-%dT%H:%M"
        widget = forms.DateTimeInput(attrs={"type": "datetime-local", **step}, format=written)
        super().__init__(widget=widget, **options)

    def to_python(self, value: Any) -> datetime | None:
        """In UTC. Raises ValidationError."""
        moment = super().to_python(value)
        try:
            return moment and in_utc(moment)
        except ValueError as error:
            raise forms.ValidationError(f"{error}.") from error
