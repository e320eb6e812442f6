"""The container engine of one host, Docker or Podman, as the hosts driver uses it: few calls, errors in words.

A container is created once, started once, stopped once and removed: its id is never used again. So whatever a late
worker still sends names an id that is gone, and what it would create finds its name taken. Labels say who made it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker
import paramiko
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from controlplane.operations.errors import StepError
from controlplane.operations.masking import hidden_in_errors
from environments.drivers.hosts.connect import DialledAdapter, Way, way_to
from environments.image_names import digest_in, repository_of

# The API is spoken over a way of ours, so this is never resolved.
NOWHERE = "tcp://engine:2375"
OLDEST = docker.constants.MINIMUM_DOCKER_API_VERSION
LABEL = "controlplane."
NANO = 1_000_000_000
TAKEN = "already in use"


class NameTaken(StepError):
    """Somebody else created a container of this name a moment ago."""


@dataclass(frozen=True)
class Container:
    """One container, as the engine tells it.

    labels: those of the control plane, without their prefix. variables: what it was given, by name. image: what it was
    created from, as whoever did that named it.
    """

    id: str
    name: str
    status: str
    image_id: str
    labels: Mapping[str, str]
    restarts: int = 0
    exit_code: int = 0
    error: str = ""
    health: str = ""
    image: str = ""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_running(self) -> bool:
        """Its process lives."""
        return self.status == "running"

    @property
    def is_fresh(self) -> bool:
        """It was created and never started."""
        return self.status in ("created", "initialized", "configured")

    @property
    def fence(self) -> int:
        """Of the worker that made it; 0 where nobody of ours did."""
        text = self.labels.get("fence", "")
        return int(text) if text.isdigit() else 0

    @property
    def is_ours(self) -> bool:
        """The control plane made it."""
        return "fence" in self.labels

    @property
    def is_held(self) -> bool:
        """It stands for "stopped on purpose": it is never started, it only keeps the name."""
        return self.labels.get("held") == "yes"

    @property
    def is_kept(self) -> bool:
        """It is a copy of what ran before a change, made ready to go back to."""
        return self.labels.get("kept") == "yes"

    @property
    def recipe(self) -> dict[str, Any]:
        """What it was made from, all but the values of its variables."""
        found = json.loads(self.labels.get("recipe", "{}"))
        return found if isinstance(found, dict) else {}

    @property
    def version(self) -> str:
        """Of the release that it was made from."""
        return self.labels.get("version", "")

    @property
    def digest(self) -> str:
        """Of the image that it was made from."""
        return self.labels.get("digest", "")

    @property
    def end(self) -> str:
        """How it ended, in words."""
        return self.error or f"exit code {self.exit_code}"


class Engine:
    """One engine, for as long as the `with` block lasts."""

    def __init__(self, way: Way, timeout: float) -> None:
        self._way = way
        self._timeout = timeout
        self._client = self._speak(OLDEST, timeout)

    @classmethod
    @contextmanager
    def at(cls, settings: Mapping[str, Any]) -> Iterator["Engine"]:
        """The engine that the settings describe. Raises StepError, in words, when it cannot be reached."""
        with _in_words("is reached"):
            way = way_to(settings)
        engine = None
        try:
            engine = cls(way, settings["answer_seconds"])
            engine._agree()
            yield engine
        finally:
            if engine is not None:
                engine._client.close()
            way.close()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What was needed to get here and must never be shown."""
        return self._way.secrets

    def _speak(self, version: str, timeout: float) -> Any:
        client = docker.APIClient(base_url=NOWHERE, version=version, timeout=timeout)
        client.trust_env = False  # no proxy and no .netrc of the worker's account
        client.mount("http://", DialledAdapter(self._way.dial, timeout))
        return client

    def _agree(self) -> None:
        """Speak the version that the engine speaks. Podman takes a second for /version, and none for a ping."""
        with _in_words("is asked for its version"):
            answer = self._client.get(f"{self._client.base_url}/_ping")
            answer.raise_for_status()
            version = answer.headers.get("Api-Version") or OLDEST
            self._client.close()
            self._client = self._speak(version, self._timeout)

    # --- looking ------------------------------------------------------------------------------------

    def find(self, name: str) -> Container | None:
        """The container of that name or id, if there is one."""
        with _in_words(f"is asked for {name}"):
            try:
                found = self._client.inspect_container(name)
            except NotFound:
                return None
        # Both engines take the beginning of an id, too: only the name itself counts.
        own = str(found["Name"]).removeprefix("/")
        return _container(found, own) if name in (own, found["Id"]) else None

    def image_id(self, reference: str) -> str:
        """The id of an image that is on the host; "" if it is not."""
        with _in_words(f"is asked for {reference}"):
            try:
                return str(self._client.inspect_image(reference)["Id"])
            except ImageNotFound:
                return ""

    def digests_of(self, container: Container) -> list[str]:
        """The digests of what a container was created from, those of its own repository first.

        An image that neither came from a registry nor went to one has none: then its id.
        """
        with _in_words(f"is asked for the image of {container.name}"):
            try:
                known = self._client.inspect_image(container.image_id).get("RepoDigests") or []
            except ImageNotFound:
                known = []
        own = repository_of(container.image)
        known = sorted(map(str, known), key=lambda one: repository_of(one) != own)
        found = list(dict.fromkeys(digest_in(one) for one in known))
        return found or [f"sha256:{container.image_id.removeprefix('sha256:')}"]

    def names_of_running(self, labels: Mapping[str, str]) -> list[str]:
        """The names of the containers that run and have these labels of the control plane."""
        wanted = [f"{LABEL}{key}={value}" for key, value in labels.items()]
        with _in_words("is asked what runs"):
            found = self._client.containers(filters={"label": wanted, "status": "running"})
            return sorted(str(one["Names"][0]).removeprefix("/") for one in found)

    def last_words(self, container: str, count: int) -> list[str]:
        """The last lines that it printed; none where the engine does not keep them."""
        try:
            with _in_words("is asked for its log"):
                told = self._client.logs(container, stdout=True, stderr=True, tail=count)
        except StepError:
            return []
        return [line for line in told.decode(errors="replace").splitlines() if line.strip()][-count:]

    # --- changing -----------------------------------------------------------------------------------

    def pull(
        self, repository: str, digest: str, login: Mapping[str, str], seconds: float, heard: Callable[[str], None]
    ) -> None:
        """Fetch an image by its digest. seconds: how long the engine may be silent. heard: is told of what happens.

        The engine passes on what the registry answers, and that may quote the password: no error says it.
        """
        image, hidden = f"{repository}@{digest}", [login["password"]] if login else []
        client = self._speak(self._client.api_version, seconds)
        try:
            with hidden_in_errors(hidden), _in_words(f"pulls {image}"):
                told = client.pull(repository, tag=digest, stream=True, decode=True, auth_config=dict(login))
                with closing(told):  # or an error keeps the connection
                    for line in told:
                        if words := line.get("error") or line.get("errorDetail", {}).get("message"):
                            raise StepError(f"{image} cannot be pulled: {str(words).strip().rstrip('.')}.")
                        heard(str(line.get("status") or line.get("stream") or "").strip())
        finally:
            client.close()

    def create(
        self, name: str, recipe: Mapping[str, Any], variables: Mapping[str, str], labels: Mapping[str, str]
    ) -> str:
        """Make a container and do not start it; returns its id. Raises NameTaken."""
        config = self._client.create_container_config(
            recipe["image"],
            command=recipe["command"] or None,
            environment=dict(variables),
            labels={LABEL + key: value for key, value in labels.items()},
            entrypoint=recipe["entrypoint"] or None,
            user=recipe["user"] or None,
            ports=[port for port in [recipe["port"]] if recipe["published"]] or None,
            healthcheck=_healthcheck(recipe),
            stop_signal=recipe["stop_signal"] or None,
            host_config=self._host_config(recipe),
        )
        with _in_words(f"creates {name}"):
            try:
                return str(self._client.create_container_from_config(config, name)["Id"])
            except APIError as error:
                if error.status_code == 409 or TAKEN in str(error.explanation):
                    raise NameTaken(f"Somebody else has just created {name}.") from error
                raise

    def _host_config(self, recipe: Mapping[str, Any]) -> Any:
        name, _, tries = str(recipe["restart"]).partition(":")
        return self._client.create_host_config(
            network_mode=recipe["network"],
            mem_limit=int(recipe["memory_mb"] * 1024 * 1024) or None,
            nano_cpus=int(recipe["cpus"] * NANO) or None,
            pids_limit=recipe["pids"] or None,
            restart_policy={"Name": name, "MaximumRetryCount": int(tries or 0)},
            binds=list(recipe["volumes"]) or None,
            read_only=recipe["read_only"] or None,
            port_bindings={recipe["port"]: recipe["published"]} if recipe["published"] else None,
        )

    def start(self, container: str) -> None:
        """Start it; no change where it runs."""
        with _in_words("starts it"):
            self._client.start(container)

    def stop(self, container: str, seconds: int) -> None:
        """Tell it to end, and kill it after so many seconds; no change where it has ended or is gone."""
        with _in_words("stops it"):
            try:
                self._client.stop(container, timeout=seconds)
            except NotFound:
                return

    def remove(self, container: str) -> None:
        """Remove it with whatever runs in it, and its unnamed volumes; no change where it is gone."""
        with _in_words("removes it"):
            try:
                self._client.remove_container(container, force=True, v=True)
            except NotFound:
                return

    def rename(self, container: str, name: str) -> None:
        """Give it another name. Raises NameTaken."""
        with _in_words(f"renames to {name}"):
            try:
                self._client.rename(container, name)
            except APIError as error:
                if error.status_code == 409 or TAKEN in str(error.explanation):
                    raise NameTaken(f"Somebody else has just created {name}.") from error
                raise


def _container(found: Mapping[str, Any], name: str) -> Container:
    state, config = found["State"], found["Config"]
    labels = {
        key.removeprefix(LABEL): value for key, value in (config.get("Labels") or {}).items() if key.startswith(LABEL)
    }
    given = dict(entry.split("=", 1) for entry in config.get("Env") or [] if "=" in entry)
    names = filter(None, labels.get("variables", "").split(","))
    return Container(
        id=found["Id"],
        name=name,
        status=str(state.get("Status", "")),
        image_id=str(found.get("Image", "")),
        labels=labels,
        restarts=int(found.get("RestartCount") or 0),
        exit_code=int(state.get("ExitCode") or 0),
        error=str(state.get("Error") or "").strip(),
        health=str((state.get("Health") or {}).get("Status") or ""),
        image=str(config.get("Image") or ""),
        variables={key: given[key] for key in names if key in given},
    )


def _healthcheck(recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """The guide's HEALTHCHECK; None leaves what the image says."""
    if not recipe["health_command"]:
        return None
    spans = {"interval": "health_interval", "timeout": "health_timeout", "start_period": "health_start_period"}
    return {
        "test": ["CMD", *recipe["health_command"]],
        "retries": recipe["health_retries"],
        **{key: int(recipe[name] * NANO) for key, name in spans.items()},
    }


@contextmanager
def _in_words(doing: str) -> Iterator[None]:
    """What the SDK, its transport or SSH raise, as a StepError. Wrong requests are for good, all else may pass."""
    try:
        yield
    except StepError:
        raise
    except APIError as error:
        said = str(error.explanation or error).strip().rstrip(".")
        permanent = error.status_code is not None and error.status_code in (400, 401, 403, 404)
        raise StepError(f"The engine refuses when it {doing}: {said}.", permanent=permanent) from error
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if isinstance(error.__cause__, StepError):
            raise error.__cause__ from None
        raise StepError(f"The engine gave no answer when it {doing}: {_innermost(error)}.") from error
    except (OSError, EOFError, ValueError, KeyError, paramiko.SSHException) as error:
        raise StepError(f"The engine gave no answer when it {doing}: {_innermost(error)}.") from error


def _innermost(error: BaseException) -> str:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error).strip().rstrip(".") or type(error).__name__
