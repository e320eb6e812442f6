"""docs/api.md lists exactly the routes that there are."""

import re
from pathlib import Path

from pydantic import BaseModel

from controlplane.api import api

OURS = ("controlplane", "environments", "deployments", "backups", "incidents")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_page_lists_every_route_and_no_other() -> None:
    paths = api.get_openapi_schema()["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    listed = re.findall(r"^\| `((?:GET|POST) \S+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(described)


def test_no_two_bodies_have_one_name() -> None:
    """Or the description shows one of them in the place of the other."""

    def below(kind: type[BaseModel]) -> list[type[BaseModel]]:
        return [one for child in kind.__subclasses__() for one in (child, *below(child))]

    ours = {one for one in below(BaseModel) if one.__module__.split(".")[0] in OURS}
    names = [one.__name__ for one in ours if one.__name__.endswith(("In", "Out"))]
    assert len(names) > 100
    assert sorted(names) == sorted(set(names))
