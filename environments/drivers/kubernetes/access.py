"""Ways to a cluster's API server: a kubeconfig, the pod's own account, a token of EKS, or any token.

lightkube reads kubeconfigs and makes the HTTP client. What it would do besides is not wanted here: a kubeconfig must
not start programs, must not switch certificate checks off, and its server must not be a metadata service. The name is
resolved once and checked, as for every address that somebody configured (`environments.addresses`).
"""

import base64
import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpcore2
import httpx2
import msgspec
import yaml
from botocore.exceptions import BotoCoreError
from botocore.signers import RequestSigner
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import Cluster, User
from lightkube.core.exceptions import ConfigError

from controlplane.operations.errors import StepError
from controlplane.operations.masking import SHORTEST
from environments.addresses import NoAnswer, addresses_of, problem_with
from environments.secrets import resolve, token_of

# Every request would be told to the process's log, every few seconds; what is answered, whatever it quotes, besides.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

WAYS = ("kubeconfig", "in-cluster", "eks", "token")
TOKEN_SECONDS = 60  # as `aws eks get-token` signs; EKS takes the token for a quarter of an hour
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # where the kubelet puts a pod's account
EKS_PREFIX = "k8s-aws-v1."
EKS_CLUSTER = "x-k8s-aws-id"


@dataclass(frozen=True)
class Connected:
    """An HTTP client whose base is the API server. secrets: what was needed for it and must never be shown."""

    client: httpx2.Client
    secrets: tuple[str, ...]
    server: str


def connect_to(access: Mapping[str, Any], answer_seconds: float) -> Connected:
    """A client for what the settings name. Raises StepError, in words without a secret."""
    try:
        config = _configs[access["way"]](access)
        config = _checked(config)
        user = config.user or User()
        secrets = _secrets_of(user)
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: for a server without TLS
        if config.cluster.server.startswith("https://"):
            verify = _trusting(config, user)
        client = httpx2.Client(
            base_url=config.cluster.server,
            auth=client_adapter.user_auth(user),
            transport=_Guarded(verify),
            timeout=httpx2.Timeout(answer_seconds),
            trust_env=False,
            headers={"User-Agent": "controlplane"},
        )
    except ConfigError as error:
        raise StepError(f"The access to the cluster cannot be used: {error}.", permanent=True) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # The text of such an error may quote what was read.
        words = f"The access to the cluster ({access['way']}) cannot be used: {type(error).__name__}."
        raise StepError(words, permanent=True) from None
    return Connected(client, secrets, config.cluster.server)


def _trusting(config: SingleConfig, user: User) -> ssl.SSLContext:
    """Checks the server by its authority and its name, and shows our certificate if there is one.

    What stands in the kubeconfig itself goes before a file that it names, as for kubectl.
    """
    cluster = config.cluster
    if cluster.certificate_auth_data:
        context = ssl.create_default_context(cadata=base64.b64decode(cluster.certificate_auth_data).decode())
    elif cluster.certificate_auth:
        context = ssl.create_default_context(cafile=config.abs_file(cluster.certificate_auth))
    else:
        context = httpx2.create_ssl_context(trust_env=False)
    if user.client_cert or user.client_cert_data:
        with (
            _file_of(config, user.client_cert_data, user.client_cert) as certificate,
            _file_of(config, user.client_key_data, user.client_key) as key,
        ):
            context.load_cert_chain(certificate, key or None)
    return context


@contextmanager
def _file_of(config: SingleConfig, data: str | None, path: str | None) -> Iterator[str]:
    """A file with it, gone after the block if it was only made for it; "" for none. OpenSSL reads keys from files."""
    if not data:
        yield str(config.abs_file(path)) if path else ""
        return
    with NamedTemporaryFile() as file:
        file.write(base64.b64decode(data))
        file.flush()
        yield file.name


def _secrets_of(user: User) -> tuple[str, ...]:
    """What must not be shown of a user. A token in a file is read at each connection, since it is renewed there.

    Raises ConfigError where it is too short to be masked.
    """
    kept = (user.token, user.password, user.client_key_data)
    try:
        written = Path(user.token_file).read_text() if user.token_file else ""
    except OSError:
        written = ""  # asking will say so
    found = tuple(dict.fromkeys(one.strip() for one in (*kept, written) if one and one.strip()))
    if any(len(one) < SHORTEST for one in found):
        raise ConfigError(f"a secret of its user has fewer than {SHORTEST} characters, too few to be kept out of logs")
    return found


def problem_with_server(url: str) -> str:
    """What is wrong with the address of an API server, in words; "" for nothing."""
    if wrong := problem_with(url):
        return wrong
    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        return "has to begin with https://: credentials are sent to it"
    return ""


def eks_token(access: Mapping[str, Any]) -> str:
    """A token for EKS: a request to STS, signed and not sent, as `aws eks get-token` makes it. Raises StepError."""
    keys = [resolve(access[name]) if access.get(name) else None for name in ("access_key", "secret_key")]
    region, cluster = access["region"], access["cluster"]
    try:
        session = boto3.Session(aws_access_key_id=keys[0], aws_secret_access_key=keys[1], region_name=region)
        client: Any = session.client("sts")
        credentials = session.get_credentials()
        if credentials is None:
            raise StepError("There are no AWS credentials to sign a token for EKS with.", permanent=True)
        signer = RequestSigner(
            client.meta.service_model.service_id, region, "sts", "v4", credentials, client.meta.events
        )
        request = {
            "method": "GET",
            "url": f"{client.meta.endpoint_url}/?Action=GetCallerIdentity&Version=2011-06-15",
            "body": {},
            "headers": {EKS_CLUSTER: cluster},
            "context": {},
        }
        signed = signer.generate_presigned_url(
            request, region_name=region, expires_in=TOKEN_SECONDS, operation_name="GetCallerIdentity"
        )
    except BotoCoreError as error:
        raise StepError(f"A token for EKS cannot be signed: {type(error).__name__}.") from None
    return EKS_PREFIX + base64.urlsafe_b64encode(signed.encode()).decode().rstrip("=")


# --- what the ways lead to ----------------------------------------------------------------------------


def _kubeconfig(access: Mapping[str, Any]) -> SingleConfig:
    try:
        content = yaml.safe_load(resolve(access["kubeconfig"]))
    except yaml.YAMLError:
        raise ConfigError("the kubeconfig is not YAML") from None
    try:
        found = KubeConfig.from_dict(content).get(access.get("context") or None)
    except (KeyError, TypeError, AttributeError, msgspec.ValidationError):
        raise ConfigError("the kubeconfig lacks a cluster, a user or a context that it names") from None
    if found is None:
        raise ConfigError("the kubeconfig has no current context; name one as context")
    return found


def _in_cluster(access: Mapping[str, Any]) -> SingleConfig:
    try:
        found = KubeConfig.from_service_account(SERVICE_ACCOUNT).get()
    except KeyError:
        raise ConfigError("this worker does not run in a pod of the cluster") from None
    if found is None:
        raise ConfigError("this worker does not run in a pod of the cluster")
    return found


def _with_token(access: Mapping[str, Any], token: str) -> SingleConfig:
    authority = resolve(access["ca"]) if access.get("ca") else ""
    if authority.lstrip().startswith("-----BEGIN"):
        authority = base64.b64encode(authority.encode()).decode()
    cluster = Cluster(server=access["server"], certificate_auth_data=authority or None)
    found = KubeConfig.from_one(cluster=cluster, user=User(token=token)).get()
    if found is None:
        raise ConfigError("it names no cluster")
    return found


_configs: dict[str, Any] = {
    "kubeconfig": _kubeconfig,
    "in-cluster": _in_cluster,
    "eks": lambda access: _with_token(access, eks_token(access)),
    "token": lambda access: _with_token(access, token_of(access["token"])),
}


def _checked(config: SingleConfig) -> SingleConfig:
    """The same, if nothing in it is refused. Raises ConfigError."""
    user, cluster = config.user or User(), config.cluster
    if user.exec or user.auth_provider:
        raise ConfigError("its user is asked of a program, and none is started here; set access to eks or token")
    if cluster.insecure:
        raise ConfigError("it does not check the API server's certificate (insecure-skip-tls-verify)")
    server = cluster.server.rstrip("/")
    if wrong := problem_with_server(server):
        raise ConfigError(f"the server {wrong}")
    return config._replace(cluster=_copy(cluster, server))


def _copy(cluster: Cluster, server: str) -> Cluster:
    return Cluster(server, cluster.certificate_auth, cluster.certificate_auth_data, cluster.insecure)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _CheckedBackend(httpcore2.SyncBackend):
    """Connects to one of the addresses that were checked, not to a name that may resolve anew."""

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:  # fmt: skip
        last: Exception = httpcore2.ConnectError(f"{host} has no address")
        try:
            addresses = addresses_of(host, port)
        except NoAnswer as error:
            raise httpcore2.ConnectError(str(error)) from error
        for address in addresses:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        raise last


class _Guarded(httpx2.HTTPTransport):
    """A transport whose connections are checked before they are made."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._pool = httpcore2.ConnectionPool(ssl_context=verify, network_backend=_CheckedBackend())
