"""How the part of an address after the "?" is read: each name known and given once, each number in plain digits."""

from typing import Annotated, Any

from django.http import QueryDict
from ninja.errors import ValidationError
from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, model_validator

LARGEST = 2**63 - 1


def _digits(value: Any) -> Any:
    """Pydantic alone reads "1_000", "+1", "1.0" and " 1 " as numbers too, which the description does not say."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        raise ValueError("give it in plain digits")
    return value


Number = Annotated[int, BeforeValidator(_digits), Field(ge=0, le=LARGEST)]


class Parameters(BaseModel):
    """What a route may be asked for, each with a default.

    A name that is not declared is refused: a misspelt filter would otherwise be taken for none, and answered with
    everything. So is a name that is given twice, of which nobody could say which one is meant.
    """

    @model_validator(mode="before")
    @classmethod
    def _known_and_once(cls, data: Any, info: ValidationInfo) -> Any:
        # By the time a model is read, django-ninja has dropped what no field has the name of; the request has it.
        given = info.context["request"].GET if info.context else QueryDict()
        known = ", ".join(cls.model_fields)
        unknown = given.keys() - cls.model_fields.keys()
        wrong = {name: "is given twice" for name in given if len(given.getlist(name)) > 1}
        wrong |= dict.fromkeys(unknown, f"is no parameter of this address; there are {known}")
        if wrong:
            raise ValidationError([{"loc": ("query", name), "msg": words} for name, words in sorted(wrong.items())])
        return data
