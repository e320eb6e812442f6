"""AWS, and what speaks S3: clients that neither wait for ever nor repeat a change by themselves, errors in words.

Credentials come from boto3's own chain (environment, profile, role of the machine) or from two secret references.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError

from controlplane.operations.errors import StepError
from controlplane.operations.masking import SHORTEST, Masker
from environments.addresses import problem_with
from environments.secrets import resolve

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_rds import RDSClient
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0
READ_ATTEMPTS = 3
# boto3 would send a request again after a lost connection. A change is sent once: who wants to try again has to
# look first whether it was taken.
CHANGE_ATTEMPTS = 1

# The descriptions of the services are large: read once a process.
_loader = create_loader()


@dataclass(frozen=True)
class Account:
    """Whom to ask, and as whom.

    endpoint_url: "" for AWS itself. access_key, secret_key: secret references; "" for boto3's own chain.
    answer_seconds: how long to wait for an answer.
    """

    region: str
    endpoint_url: str = ""
    access_key: str = ""
    secret_key: str = ""
    answer_seconds: float = ANSWER_SECONDS

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Account":
        """The account that settings or a step's arguments name; what they do not say is as usual."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def keys(self) -> tuple[str, ...]:
        """The secret values themselves, to be masked; none for boto3's own chain. Raises StepError."""
        return tuple(resolve(reference) for reference in (self.access_key, self.secret_key) if reference)


def ecs(account: Account, attempts: int) -> "ECSClient":
    """A client for ECS. attempts: READ_ATTEMPTS or CHANGE_ATTEMPTS. Raises StepError."""
    client: ECSClient = _client(_Wanted("ecs", account, attempts))
    return client


def rds(account: Account, attempts: int) -> "RDSClient":
    """A client for RDS. attempts: READ_ATTEMPTS or CHANGE_ATTEMPTS. Raises StepError."""
    client: RDSClient = _client(_Wanted("rds", account, attempts))
    return client


def other(service: str, account: Account, attempts: int) -> Any:
    """A client for another service ("route53", "cloudwatch", "ecr", "service-quotas", "iam", "sts"). Raises StepError.

    Their stubs are not installed, so whoever calls says what comes back.
    """
    return _client(_Wanted(service, account, attempts))


def s3(account: Account, attempts: int, *, path_style: bool = False, checksums: bool = True) -> "S3Client":
    """A client for S3, or for what speaks its language. Raises StepError.

    attempts: of each request; to write an object or a part twice comes to the same as once. path_style: the bucket's
    name is in the path, not in the host's name. checksums: send CRC32, which AWS verifies and many others do not
    know; without it the signature covers the content.
    """
    client: S3Client = _client(_Wanted("s3", account, attempts, path_style, checksums))
    return client


@dataclass(frozen=True)
class _Wanted:
    """What a client is made from. path_style, checksums: only S3 looks at them."""

    service: str
    account: Account
    attempts: int
    path_style: bool = False
    checksums: bool = True

    def config(self) -> Config:
        return Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=self.account.answer_seconds,
            retries={"total_max_attempts": self.attempts, "mode": "standard"},
            user_agent_extra="controlplane",
            s3={"addressing_style": "path" if self.path_style else "auto"},
            request_checksum_calculation="when_supported" if self.checksums else "when_required",
            response_checksum_validation="when_supported" if self.checksums else "when_required",
        )


def _client(wanted: _Wanted) -> Any:
    account = wanted.account
    if account.endpoint_url and (wrong := problem_with(account.endpoint_url)):
        raise StepError(f"The endpoint_url {account.endpoint_url} {wrong}.", permanent=True)
    keys = account.keys()
    if len(keys) == 1:
        raise StepError("access_key and secret_key belong together: give both or neither.", permanent=True)
    # boto3's own chain is asked anew each time, so that credentials which somebody renewed are taken up.
    make = _made_once if keys else _made_once.__wrapped__
    with in_words(f"making a client for {wanted.service.upper()}", f"region {account.region}"):
        return make(wanted, keys)


@lru_cache(maxsize=32)
def _made_once(wanted: _Wanted, keys: tuple[str, ...]) -> Any:
    access, secret = keys or (None, None)
    core = botocore.session.Session()
    core.register_component("data_loader", _loader)
    session = boto3.Session(
        botocore_session=core, region_name=wanted.account.region, aws_access_key_id=access, aws_secret_access_key=secret
    )
    # The stubs want the service's name written out.
    make: Any = session.client
    client = make(wanted.service, endpoint_url=wanted.account.endpoint_url or None, config=wanted.config())
    client.meta.events.register("after-call", partial(_hide_in_answer, session))
    client.meta.events.register("after-call-error", partial(_hide_in_error, session))
    return client


# Whoever answers, a proxy in between too, may quote what it was sent: no error says our credentials.


def _hide_in_answer(session: boto3.Session, parsed: Mapping[str, Any], **rest: Any) -> None:
    if said := parsed.get("Error", {}).get("Message"):
        parsed["Error"]["Message"] = _masker_of(session).mask(str(said))


def _hide_in_error(session: boto3.Session, exception: Exception, **rest: Any) -> None:
    if isinstance(exception, boto.NoCredentialsError):
        return  # nothing was sent, and looking for them again takes seconds
    masker = _masker_of(session)
    exception.args = tuple(masker.mask(one) if isinstance(one, str) else one for one in exception.args)


def _masker_of(session: boto3.Session) -> Masker:
    """Of the credentials that the last request was signed with; boto3 renews those of a role by itself."""
    found = session.get_credentials()
    kept = (found.access_key, found.secret_key, found.token) if found else ()
    return Masker(one for one in kept if one and len(one) >= SHORTEST)


@contextmanager
def in_words(action: str, resource: str) -> Iterator[None]:
    """Turn boto3's errors into StepError. action: as IAM names it ("ecs:UpdateService"); resource: as people do.

    What an action of S3 is refused by need not be AWS, so the words do not say so.
    """
    try:
        yield
    except boto.ClientError as error:
        raise _refusal(error, action, resource) from error
    except boto.BotoCoreError as error:
        raise _failure(error, action, resource) from error
    except ResponseParserError as error:
        raise StepError(f"The answer to {action} on {resource} is not from {_whom(action)}: {error}") from error


def code_of(error: StepError) -> str:
    """AWS's own code of a refusal ("DBInstanceNotFound"), "" where there was none."""
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, boto.ClientError) else ""


def _whom(action: str) -> str:
    return "S3" if action.startswith("s3:") else "AWS"


EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
NOT_ACCEPTED = {
    "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch",
    "IncompleteSignature", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "AuthFailure",
    "InvalidAccessKeyId", "OptInRequired",
}  # fmt: skip
SKEWED = {"RequestExpired", "RequestTimeTooSkewed"}
# What arrived is not what was sent, or not all of it: the network's fault, so it passes.
GARBLED = {
    "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody", "RequestTimeout",
    "InvalidPart",
}  # fmt: skip
DENIED = {"AccessDeniedException", "AccessDenied", "AllAccessDisabled", "UnauthorizedOperation"}
ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
THROTTLED = {
    "ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded",
    "RequestThrottled", "RequestThrottledException", "SlowDown", "SlowDownRead", "SlowDownWrite",
    "PriorRequestNotComplete",
}  # fmt: skip
PASSING = {
    "ServerException",
    "InternalFailure",
    "InternalError",
    "ServiceUnavailable",
    "UpdateInProgressException",
    "OperationAborted",
}
# Something else is being done to it: later it goes.
BUSY = {"InvalidDBInstanceState", "InvalidDBInstanceStateFault", "InvalidDBSnapshotState"}
MISSING = {"ClusterNotFoundException", "ServiceNotFoundException", "ServiceNotActiveException"}
NO_CREDENTIALS = (
    boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError, boto.ProfileNotFound,
    boto.NoAuthTokenError,
)  # fmt: skip
STALE_SIGN_IN = (boto.TokenRetrievalError, boto.UnauthorizedSSOTokenError, boto.SSOTokenLoadError)
UNREACHABLE = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
UNANSWERED = (boto.ReadTimeoutError, boto.ConnectionClosedError, boto.HTTPClientError, boto.ResponseStreamingError)
ACTION_DENIED = re.compile(r"not authorized to perform: (\S+)(?: on resource: (\S+))?")


def _refusal(error: boto.ClientError, action: str, resource: str) -> StepError:
    """What AWS answered, why, and who can change it."""
    answer: dict[str, Any] = dict(error.response)
    code = str(answer.get("Error", {}).get("Code", ""))
    said = str(answer.get("Error", {}).get("Message", "") or code).rstrip(".")
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    whom = _whom(action)
    if code in THROTTLED:
        return StepError(f"{whom} slows us down ({code}) at {action} on {resource}")
    if code in PASSING or status >= 500:
        return StepError(f"{whom} has trouble of its own ({status} {code}) at {action} on {resource}")
    if code in BUSY:
        return StepError(f"{whom} cannot carry out {action} on {resource} yet ({code}): {said}")
    if code in GARBLED:
        return StepError(f"What {whom} got for {action} on {resource} is not what was sent ({code}): {said}.")
    if code in EXPIRED:
        return _for_good(f"The {whom} credentials have expired. Somebody who manages them has to renew them.")
    if code in SKEWED:
        return _for_good(f"{whom} refuses the time of our signature: {said}. Set this machine's clock, then try again.")
    if code in NOT_ACCEPTED:
        return _for_good(f"{whom} does not know these credentials ({code}). Check access_key and secret_key.")
    if code in DENIED:
        found = ACTION_DENIED.search(said)
        what, where = (found[1], found[2] or resource) if found else (action, resource)
        remedy = f"Somebody who manages IAM has to add {what} to the policy of this control plane."
        return _for_good(f"{whom} does not allow {what} on {where}. {remedy} {whom} says: {said}.")
    if code in MISSING:
        remedy = "Check region, cluster and service in the environment's driver settings."
        return _for_good(f"There is no active {resource} ({code}). {remedy}")
    if code == "NoSuchBucket":
        remedy = "Make it, or check bucket, region and endpoint_url in the storage's settings."
        return _for_good(f"There is no such bucket for {action} on {resource}. {remedy}")
    if code in ELSEWHERE:
        remedy = "Check region and endpoint_url in the storage's settings."
        return _for_good(f"The bucket is in another region ({code}) for {action} on {resource}: {said}. {remedy}")
    return _for_good(f"{whom} refuses {action} on {resource} ({code}): {said}.")


def _failure(error: boto.BotoCoreError, action: str, resource: str) -> StepError:
    """Why there is no answer."""
    whom = _whom(action)
    if isinstance(error, NO_CREDENTIALS):
        remedy = "Give its process a role or AWS_* variables, or name access_key and secret_key in the settings."
        passing = isinstance(error, boto.CredentialRetrievalError)
        return StepError(f"This worker has no {whom} credentials ({error}). {remedy}", permanent=not passing)
    if isinstance(error, STALE_SIGN_IN):
        return _for_good(f"The {whom} sign-in of this worker has expired ({error}). Somebody has to sign it in again.")
    if isinstance(error, UNREACHABLE):
        return StepError(f"{whom} cannot be reached for {action} on {resource}: {error}")
    if isinstance(error, UNANSWERED):
        return StepError(f"No answer to {action} on {resource}, so it is not known whether it was taken: {error}")
    return _for_good(f"{action} on {resource} is not possible: {error}")


def _for_good(words: str) -> StepError:
    return StepError(words, permanent=True)
