"""Ways to send people to one side or the other: one file each, all of them in one dict."""

from backups.disaster.base import Traffic
from backups.disaster.traffic.flag import FlagTraffic
from backups.disaster.traffic.local import LocalTraffic
from backups.disaster.traffic.route53 import Route53Traffic

TRAFFIC: dict[str, Traffic] = {part.kind: part for part in (LocalTraffic(), Route53Traffic(), FlagTraffic())}
