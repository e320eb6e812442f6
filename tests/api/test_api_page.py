"""docs/api.md lists exactly the routes that there are."""

import re
from pathlib import Path

from controlplane.api import api

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_page_lists_every_route_and_no_other() -> None:
    paths = api.get_openapi_schema()["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    listed = re.findall(r"^\| `((?:GET|POST) \S+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(described)
