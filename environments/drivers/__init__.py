"""How to talk to the places where software runs: one folder a driver, all of them in one dict."""

from environments.drivers.base import Driver
from environments.drivers.ecs.compare import ComparableEcsDriver
from environments.drivers.hosts.compare import ComparableHostsDriver
from environments.drivers.kubernetes.driver import KubernetesDriver
from environments.drivers.local.compare import ComparableLocalDriver

DRIVERS: dict[str, Driver] = {
    driver.name: driver
    for driver in (ComparableLocalDriver(), ComparableEcsDriver(), ComparableHostsDriver(), KubernetesDriver())
}
