"""The ways to a cluster, over real TLS: who is trusted, who is let in, what is refused, and that nothing is shown."""

import base64
import hashlib
import hmac
import logging
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import yaml

from controlplane.operations.errors import StepError
from environments.drivers.kubernetes import access
from environments.drivers.kubernetes.access import EKS_CLUSTER, EKS_PREFIX, TOKEN_SECONDS
from environments.drivers.kubernetes.api import Api
from tests.aws.company import SECRET_KEY
from tests.aws.layer import Layer
from tests.environments.hosts.doors import Authority
from tests.environments.kubernetes.cluster import Cluster
from tests.environments.kubernetes.server import TOKEN, ApiServer, served

pytest_plugins = ["tests.aws.fixtures"]


@dataclass
class Door:
    """An API server behind TLS, and the folder with its authority's certificates."""

    folder: Path
    api: ApiServer
    monkeypatch: pytest.MonkeyPatch
    said: list[str] = field(default_factory=list)

    def pem(self, name: str) -> bytes:
        """A file of the authority."""
        return (self.folder / name).read_bytes()

    def inline(self, name: str) -> str:
        """The same as a kubeconfig holds it."""
        return base64.b64encode(self.pem(name)).decode()

    def kubeconfig(self, cluster: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
        """Access by a kubeconfig with these two."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "there",
            "clusters": [{"name": "c", "cluster": {"server": self.api.url, **cluster}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "there", "context": {"cluster": "c", "user": "u"}}],
        }
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return {"way": "kubeconfig", "kubeconfig": f"file:{path}"}

    def token(self, **values: str) -> dict[str, Any]:
        """Access by a token."""
        self.monkeypatch.setenv("CLUSTER_TOKEN", TOKEN)
        ca = f"file:{self.folder / 'authority.pem'}"
        return {"way": "token", "server": self.api.url, "token": "env:CLUSTER_TOKEN", "ca": ca, **values}

    def ask(self, access: dict[str, Any]) -> tuple[str, ...]:
        """Ask something with it; what has to be masked. Raises StepError."""
        with Api.at({"access": access, "answer_seconds": 5.0, "namespace": "production"}) as api:
            assert api.find("Deployment", "nobody") is None
            return api.secrets

    def refuses(self, access: dict[str, Any]) -> str:
        """The words of the refusal, which are held to show no secret."""
        asked = len(self.api.asked)
        with pytest.raises(StepError) as found:
            self.ask(access)
        assert len(self.api.asked) == asked, "it was asked all the same"
        words = str(found.value)
        assert TOKEN not in words and TOKEN not in repr(found.value.__cause__)
        return words


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Door]:
    """Its server has a certificate for 127.0.0.1, and lets in who shows one of its authority, or the token."""
    caplog.set_level(logging.DEBUG)
    authority = Authority(tmp_path)
    authority.issue("server")
    authority.issue("client")
    Authority(tmp_path, "stranger").issue("intruder")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "authority.pem")
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with served(Cluster(), tls) as api:
        yield Door(tmp_path, api, monkeypatch)
    key = (tmp_path / "client.key").read_text().splitlines()[1]
    for record in caplog.records:
        text = logging.Formatter().format(record)
        assert TOKEN not in text and key not in text and SECRET_KEY not in text


# --- kubeconfig ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [True, False])
def test_a_kubeconfig_with_a_client_certificate(door: Door, inline: bool) -> None:
    files = {"certificate-authority": "authority.pem"}, {"client-certificate": "client.pem", "client-key": "client.key"}
    cluster, user = (
        {f"{key}-data" if inline else key: door.inline(name) if inline else str(door.folder / name)
         for key, name in one.items()}
        for one in files
    )  # fmt: skip
    secrets = door.ask(door.kubeconfig(cluster, user))
    assert not inline or door.inline("client.key") in secrets


def test_a_kubeconfig_with_a_token_and_one_in_a_file(door: Door) -> None:
    cluster = {"certificate-authority-data": door.inline("authority.pem")}
    assert door.ask(door.kubeconfig(cluster, {"token": TOKEN})) == (TOKEN,)
    written = door.folder / "token"
    written.write_text(f"{TOKEN}\n")
    assert door.ask(door.kubeconfig(cluster, {"tokenFile": str(written)})) == (TOKEN,)


@pytest.mark.parametrize("user", [{"token": "abc"}, {"username": "u", "password": "abc"}])
def test_a_secret_that_is_too_short_to_be_masked(door: Door, user: dict[str, str]) -> None:
    words = door.refuses(door.kubeconfig({"certificate-authority-data": door.inline("authority.pem")}, user))
    assert "a secret of its user has fewer than 4 characters" in words


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({}, {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "touch"}},
         "its user is asked of a program, and none is started here; set access to eks or token"),
        ({}, {"auth-provider": {"name": "gcp"}}, "its user is asked of a program"),
        ({"insecure-skip-tls-verify": True}, {"token": TOKEN}, "does not check the API server's certificate"),
        ({"server": "http://10.0.0.1:6443"}, {"token": TOKEN}, "the server has to begin with https://"),
        ({"server": "https://169.254.169.254"}, {"token": TOKEN}, "the server "),
        ({"certificate-authority-data": None, "certificate-authority": "ca.pem"}, {"token": TOKEN}, "is relative"),
        ({"certificate-authority-data": "bm90IGEgY2VydGlmaWNhdGU="}, {"token": TOKEN}, "SSLError"),
        ({}, {"token": f"{TOKEN}\nand more"}, "its token cannot be sent"),
        ({}, {"token": [TOKEN]}, "lacks a cluster, a user or a context"),
    ],
)  # fmt: skip
def test_what_a_kubeconfig_must_not_hold(door: Door, cluster: Any, user: Any, words: str) -> None:
    access = door.kubeconfig({"certificate-authority-data": door.inline("authority.pem"), **cluster}, user)
    assert words in door.refuses(access)


def test_a_program_of_a_kubeconfig_is_never_started(door: Door) -> None:
    trace = door.folder / "was-started"
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "touch", "args": [str(trace)]}}
    door.refuses(door.kubeconfig({"certificate-authority-data": door.inline("authority.pem")}, user))
    assert not trace.exists()


def test_a_context_that_is_not_there_and_one_that_is(door: Door) -> None:
    access = door.kubeconfig({"certificate-authority-data": door.inline("authority.pem")}, {"token": TOKEN})
    assert "Context 'elsewhere' not found" in door.refuses({**access, "context": "elsewhere"})
    door.ask({**access, "context": "there"})


@pytest.mark.parametrize("text", ["- [", "only text that is no kubeconfig", "clusters: []\ncontexts: []\n"])
def test_a_file_that_is_no_kubeconfig_is_not_quoted(door: Door, text: str) -> None:
    (door.folder / "broken").write_text(f"{text} {TOKEN}" if text[0] != "c" else text)
    words = door.refuses({"way": "kubeconfig", "kubeconfig": f"file:{door.folder / 'broken'}"})
    assert "kubeconfig" in words or "context" in words


# --- whom we trust ------------------------------------------------------------------------------------


def test_a_server_of_another_authority_is_refused(door: Door) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in door.refuses(door.token(ca=f"file:{door.folder / 'stranger.pem'}"))
    inline = {"certificate-authority-data": door.inline("stranger.pem")}
    assert "CERTIFICATE_VERIFY_FAILED" in door.refuses(door.kubeconfig(inline, {"token": TOKEN}))


def test_without_an_authority_only_the_public_ones_are_trusted(door: Door) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in door.refuses(door.token(ca=""))


def test_a_certificate_for_another_name_is_refused(door: Door) -> None:
    """It is for 127.0.0.1, where localhost leads."""
    assert "Hostname mismatch" in door.refuses(door.token(server=door.api.url.replace("127.0.0.1", "localhost")))


def test_a_client_certificate_of_another_authority_is_not_let_in(door: Door) -> None:
    user = {
        f"client-{name}-data": door.inline(f"intruder.{end}") for name, end in (("certificate", "pem"), ("key", "key"))
    }
    door.refuses(door.kubeconfig({"certificate-authority-data": door.inline("authority.pem")}, user))


def test_a_wrong_token_may_become_right(door: Door) -> None:
    door.api.token = "another"
    with pytest.raises(StepError, match="does not accept our credentials") as found:
        door.ask(door.token())
    assert not found.value.permanent and TOKEN not in str(found.value)


def test_an_authority_may_be_text_or_base64(door: Door) -> None:
    (door.folder / "encoded").write_text(door.inline("authority.pem"))
    assert door.ask(door.token()) == door.ask(door.token(ca=f"file:{door.folder / 'encoded'}")) == (TOKEN,)


# --- in a pod -----------------------------------------------------------------------------------------


@pytest.fixture
def account(door: Door) -> Path:
    """What the kubelet gives a pod."""
    folder = door.folder / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text(TOKEN)
    (folder / "namespace").write_text("production")
    (folder / "ca.crt").write_bytes(door.pem("authority.pem"))
    parts = urlsplit(door.api.url)
    door.monkeypatch.setattr(access, "SERVICE_ACCOUNT", str(folder))
    door.monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(parts.hostname))
    door.monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(parts.port))
    return folder


def test_a_pods_own_account(door: Door, account: Path) -> None:
    assert door.ask({"way": "in-cluster"}) == (TOKEN,)


def test_a_renewed_token_is_read_again_also_by_who_is_connected(door: Door, account: Path) -> None:
    with Api.at({"access": {"way": "in-cluster"}, "answer_seconds": 5.0, "namespace": "production"}) as api:
        api.find("Deployment", "nobody")
        door.api.token = "the-next-token-of-this-pod"
        (account / "token").write_text(door.api.token)
        api.find("Deployment", "nobody")
    assert door.ask({"way": "in-cluster"}) == ("the-next-token-of-this-pod",)


def test_the_pods_authority_is_the_only_one(door: Door, account: Path) -> None:
    (account / "ca.crt").write_bytes(door.pem("stranger.pem"))
    assert "CERTIFICATE_VERIFY_FAILED" in door.refuses({"way": "in-cluster"})


def test_outside_of_a_pod(door: Door, account: Path) -> None:
    door.monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert "does not run in a pod" in door.refuses({"way": "in-cluster"})
    (account / "token").unlink()
    assert "cannot be used" in door.refuses({"way": "in-cluster"})


# --- EKS ----------------------------------------------------------------------------------------------


@dataclass
class Eks:
    """Tells who somebody is as EKS does: it carries out the signed request that the token is, naming its cluster."""

    cluster: str
    sts: str  # where the requests to AWS's own address are carried out
    arns: list[str] = field(default_factory=list)

    def knows(self, token: str) -> bool:
        """Whether STS, and its signature, say so."""
        text = token.removeprefix(EKS_PREFIX)
        url = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        query = dict(parse_qsl(urlsplit(url).query))
        if query["Action"] != "GetCallerIdentity" or int(query["X-Amz-Expires"]) > TOKEN_SECONDS:
            return False
        if query["X-Amz-Signature"] != _signature(url, query, self.cluster):
            return False
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}" == "https://sts.us-east-1.amazonaws.com"
        # moto finds the service by this header, not by the address or what is signed into it.
        known = {"Authorization": f"AWS4-HMAC-SHA256 Credential={query['X-Amz-Credential']}, Signature=in-the-query"}
        there = urllib.request.Request(f"{self.sts}/?{parts.query}", headers={EKS_CLUSTER: self.cluster, **known})
        with urllib.request.urlopen(there) as answer:
            self.arns.append(answer.read().decode().partition("<Arn>")[2].partition("</Arn>")[0])
        return True


def _signature(url: str, query: dict[str, str], cluster: str) -> str:
    """Signature Version 4 of a request with this cluster's name among the signed headers."""
    query = {key: value for key, value in query.items() if key != "X-Amz-Signature"}
    said = "&".join(f"{quote(key, '-_.~')}={quote(value, '-_.~')}" for key, value in sorted(query.items()))
    headers = f"host:{urlsplit(url).netloc}\n{EKS_CLUSTER}:{cluster}\n"
    nothing = hashlib.sha256(b"").hexdigest()
    request = "\n".join(["GET", "/", said, headers, f"host;{EKS_CLUSTER}", nothing])
    scope = query["X-Amz-Credential"].partition("/")[2]
    signed = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, signed.encode(), hashlib.sha256).hexdigest()


def test_a_token_of_eks_is_a_request_to_sts_signed_for_this_cluster(door: Door, aws: Layer) -> None:
    eks = Eks("pitchey", "http://{}:{}".format(*aws.moto))
    door.api.knows = eks.knows
    keys = {"access_key": "env:TEST_AWS_ACCESS_KEY", "secret_key": "env:TEST_AWS_SECRET_KEY"}
    given = {**door.token(), "way": "eks", "region": "us-east-1", "cluster": "pitchey", **keys}
    (secret,) = door.ask(given)
    assert secret.startswith(EKS_PREFIX)
    assert eks.arns and eks.arns[0].startswith("arn:aws:")
    with pytest.raises(StepError, match="does not accept our credentials") as found:
        door.ask({**given, "cluster": "another"})
    assert EKS_PREFIX not in str(found.value) and SECRET_KEY not in str(found.value)


def test_without_credentials_there_is_no_token(door: Door, aws: Layer) -> None:
    given = {**door.token(), "way": "eks", "region": "us-east-1", "cluster": "pitchey"}
    assert "no AWS credentials" in door.refuses(given)
