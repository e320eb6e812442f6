"""AWS: clients that neither wait for ever nor repeat a change by themselves, and its errors sorted."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from botocore import exceptions as boto
from botocore.config import Config

from backups.disaster.kit.script.errors import Passing, Wrong

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 20.0
BUSY = (
    "Throttl", "TooManyRequests", "RequestLimitExceeded", "SlowDown", "PriorRequestNotComplete", "ServiceUnavailable",
    "InternalFailure", "InternalError", "ServerException", "RequestTimeout", "UpdateInProgress",
)  # fmt: skip
# What is under way has to end first: it passes.
UNDER_WAY = ("InvalidDBInstanceState", "InvalidDBInstanceStateFault", "ConflictException", "OperationAborted")

# How to reach a place: region, endpoint_url ("" for AWS), the names of variables with the keys ("" for none), and for
# S3 whether a bucket's name is in the path (path_style).
Place = Mapping[str, Any]


class NotThere(Wrong):
    """What was asked for does not exist."""


_clients: dict[tuple[str, ...], Any] = {}


def client(service: str, place: Place) -> Any:
    """A client for a service at a place; one that sends each request once."""
    names = str(place.get("access_key_env") or ""), str(place.get("secret_key_env") or "")
    region, endpoint = str(place.get("region") or ""), str(place.get("endpoint_url") or "")
    style: Any = "path" if place.get("path_style") else "auto"
    wanted = (service, region, endpoint, style, *names)
    if wanted not in _clients:
        keys = [os.environ.get(name) or None for name in names]
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=float(os.environ.get("RECOVER_ANSWER_SECONDS", ANSWER_SECONDS)),
            retries={"total_max_attempts": 1, "mode": "standard"},
            user_agent_extra="recovery-kit",
            s3={"addressing_style": style},
        )
        try:
            # The stubs want the service's name written out.
            make: Any = boto3.Session().client
            _clients[wanted] = make(
                service, region_name=region or None, endpoint_url=endpoint or None,
                aws_access_key_id=keys[0], aws_secret_access_key=keys[1], config=config,
            )  # fmt: skip
        except (boto.BotoCoreError, ValueError) as error:
            raise Wrong(f"There can be no client for {service} in {region or 'no region'}: {error}.") from None
    return _clients[wanted]


def call(service: str, place: Place, method: str, /, **values: Any) -> dict[str, Any]:
    """Ask AWS once. Raises Passing, NotThere, Wrong."""
    where = f"{service} {method.replace('_', ' ')} in {place.get('region') or 'AWS'}"
    try:
        answer: dict[str, Any] = getattr(client(service, place), method)(**values)
    except boto.ClientError as error:
        raise _aws_error(error, where) from None
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound) as error:
        raise Wrong(f"{where}: there are no AWS credentials here ({error}).") from None
    except boto.ParamValidationError as error:
        raise Wrong(f"{where}: the plan asks for something that AWS does not take: {error}") from None
    except (boto.BotoCoreError, OSError) as error:
        raise Passing(f"{where}: no answer ({error}).") from None
    except ValueError as error:  # what answered is not AWS
        raise Passing(f"{where}: the answer cannot be read ({error}).") from None
    return answer


def _aws_error(error: boto.ClientError, where: str) -> Exception:
    answer: dict[str, Any] = dict(error.response)
    code = str(answer.get("Error", {}).get("Code", ""))
    said = str(answer.get("Error", {}).get("Message", "") or code)
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    words = f"{where}: AWS says {code}: {said}"
    if status >= 500 or any(part in code for part in BUSY) or code in UNDER_WAY:
        return Passing(words)
    if "NotFound" in code or code.startswith("NoSuch") or code == "404":
        return NotThere(words)
    return Wrong(words)
