"""How to talk to the places where software runs: one file a driver, all of them in one dict."""

from environments.drivers.base import Driver

DRIVERS: dict[str, Driver] = {}
