"""The web process as it is, which also knows the kind of operation that the benchmark runs."""

from controlplane.asgi import application
from tests.operations import recipes

recipes.register()

__all__ = ["application"]
