"""How to talk to the places where software runs: one file a driver, all of them in one dict."""

from environments.drivers.base import Driver
from environments.drivers.ecs import EcsDriver
from environments.drivers.local import LocalDriver

DRIVERS: dict[str, Driver] = {driver.name: driver for driver in (LocalDriver(), EcsDriver())}
