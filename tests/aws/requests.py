"""Which service, region and action an HTTP request means, in each of the languages that AWS speaks."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")
# Services that are one for the world: they are out of reach by their own name, not by a region's.
GLOBAL = ("route53", "iam")
ROUTE53 = (
    ("POST", r"/hostedzone/[^/]+/rrset/?$", "ChangeResourceRecordSets"),
    ("GET", r"/hostedzone/[^/]+/rrset/?$", "ListResourceRecordSets"),
    ("GET", r"/change/[^/]+$", "GetChange"),
    ("GET", r"/testdnsanswer$", "TestDNSAnswer"),
    ("GET", r"/hostedzone/[^/]+$", "GetHostedZone"),
    ("POST", r"/hostedzone/?$", "CreateHostedZone"),
    ("POST", r"/healthcheck/?$", "CreateHealthCheck"),
    ("GET", r"/healthcheck/[^/]+/status$", "GetHealthCheckStatus"),
    ("GET", r"/healthcheck/[^/]+$", "GetHealthCheck"),
)
OBJECT = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject", "POST": "PostObject"}
BUCKET = {"PUT": "CreateBucket", "GET": "ListObjectsV2", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}


@dataclass(frozen=True)
class Request:
    """One request. place: the region that answers it, or the name of a global service.

    values: its parameters, of the query, the form or the JSON body.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    service: str
    region: str
    action: str
    values: dict[str, Any]

    @property
    def place(self) -> str:
        """What has to be reachable for an answer."""
        return self.service if self.service in GLOBAL else self.region

    @property
    def is_xml(self) -> bool:
        """Whether the caller expects XML."""
        return "X-Amz-Target" not in self.headers


def read(method: str, path: str, headers: dict[str, str], body: bytes) -> Request:
    """What the request means."""
    found = SCOPE.search(headers.get("Authorization", ""))
    region, service = (found[1], found[2]) if found else ("us-east-1", "s3")
    parts = urlsplit(path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    action, values = "", dict(query)
    if target := headers.get("X-Amz-Target"):
        action, values = target.rpartition(".")[2], json.loads(body or b"{}")
    elif headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        values = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action = values.get("Action", "")
    elif service == "route53":
        action = next((name for how, where, name in ROUTE53 if how == method and re.search(where, parts.path)), "")
    elif service == "s3":
        bucket, _, key = unquote(parts.path).strip("/").partition("/")
        action = (OBJECT if key else BUCKET).get(method, method)
        values |= {"Bucket": bucket, "Key": key}
    return Request(method, path, headers, body, service, region, action, values)
