"""Spreads the long files of tests among the short ones, so that no process of a run is left alone with them at the end.

And so that as seldom as possible two of them share the machine: what they start and kill needs it.
"""

import pytest

LONG = ("browser", "chaos", "slow", "timeout")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files: dict[object, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    long = [file for file, tests in files.items() if any(map(_is_long, tests))]
    short = [file for file in files if file not in long]
    between = len(short) // (len(long) + 1)
    order: list[object] = []
    for number, file in enumerate(long):
        order += [*short[number * between : (number + 1) * between], file]
    order += short[len(long) * between :]
    items[:] = [test for file in order for test in files[file]]


def _is_long(test: pytest.Item) -> bool:
    return any(test.get_closest_marker(one) for one in LONG)
