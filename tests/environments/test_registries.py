"""Whether a registry still has an image: by its digest, a password only to whom it belongs, nothing fetched."""

import pytest

from controlplane.operations.errors import StepError
from environments.registries import Login, has_image, parts_of
from tests.backups.registries import Content, Wire, registry

GONE = "sha256:" + "0" * 64


def test_what_is_there_and_what_is_not(content: Content, wire: Wire, repository: str) -> None:
    digest = content.image(b"a layer")
    assert has_image(repository, digest)
    assert not has_image(repository, GONE)
    assert [path for path, _ in wire.asked] == [f"/v2/team/api/manifests/{one}" for one in (digest, GONE)]


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_it_signs_in_where_it_is_asked_to(content: Content, wire: Wire, repository: str, auth: str) -> None:
    wire.auth = auth
    digest = content.image(b"a layer")
    assert has_image(repository, digest, Login(*wire.user))
    assert not has_image(repository, GONE, Login(*wire.user))


@pytest.mark.parametrize("auth", ["basic", "token"])
@pytest.mark.parametrize("login", [None, Login("robot", "a-wrong-password")])
def test_who_is_not_let_in_cannot_say(wire: Wire, repository: str, auth: str, login: Login | None) -> None:
    wire.auth = auth
    with pytest.raises(StepError, match="does not let robot read" if login else "without a password") as told:
        has_image(repository, GONE, login)
    assert told.value.permanent
    assert "a-wrong-password" not in str(told.value)


def test_trouble_of_its_own_is_no_verdict(wire: Wire, repository: str) -> None:
    wire.statuses.append((503, {}))
    with pytest.raises(StepError, match="answers 503") as told:
        has_image(repository, GONE)
    assert not told.value.permanent


def test_nobody_who_answers_is_no_verdict(unused_tcp_port_of_nobody: int) -> None:
    with pytest.raises(StepError, match="cannot be asked: connection refused") as told:
        has_image(f"127.0.0.1:{unused_tcp_port_of_nobody}/team/api", GONE)
    assert not told.value.permanent


@pytest.fixture
def unused_tcp_port_of_nobody(content: Content, wire: Wire) -> int:
    """The port of a registry that is gone."""
    with registry(content, wire) as url:
        return int(url.rpartition(":")[2])


def test_a_metadata_service_is_never_asked() -> None:
    with pytest.raises(StepError, match="link-local or metadata"):
        has_image("169.254.169.254/team/api", GONE)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("registry.example.com/team/api", ("registry.example.com", "team/api")),
        ("localhost:5000/api", ("localhost:5000", "api")),
        ("team/api", ("registry-1.docker.io", "team/api")),
        ("docker.io/redis", ("registry-1.docker.io", "library/redis")),
        ("index.docker.io/redis", ("registry-1.docker.io", "library/redis")),
        ("GHCR.io/team/api", ("ghcr.io", "team/api")),
        ("SERVER/api", ("server", "api")),
        ("redis", ("registry-1.docker.io", "library/redis")),
    ],
)
def test_names_are_read_as_docker_reads_them(name: str, wanted: tuple[str, str]) -> None:
    assert parts_of(name) == wanted
