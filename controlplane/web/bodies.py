"""How the bodies of requests are read: UTF-8 JSON, every field known, every text bounded."""

import json
from typing import Annotated, Any, NoReturn

from django.http import HttpRequest
from ninja.parser import Parser
from pydantic import BaseModel, ConfigDict, StringConstraints

# PostgreSQL stores no NUL.
Words = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,60}$")]


class Body(BaseModel):
    """The body of a request: no field that is not declared, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Unreadable(Exception):
    """The body is not what this API reads. status: 400 or 415."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class StrictParser(Parser):
    """Reads JSON as the standard has it; Python's reader alone takes NaN, UTF-16 and halves of characters too."""

    def parse_body(self, request: HttpRequest) -> Any:
        """The body as plain data. Raises Unreadable, in words."""
        if request.content_type != "application/json":
            raise Unreadable(415, "Send the body as application/json.")
        try:
            data = json.loads(request.body.decode(), parse_constant=_no_constant, object_pairs_hook=_each_once)
            json.dumps(data, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise Unreadable(400, f"The body is not valid JSON in UTF-8: {type(error).__name__}.") from error
        return data


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two fields of one name, nobody could say which one is meant."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a field stands in it twice")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
