"""The demo's staging in real containers, where this computer has a Podman that runs them.

The images' archives are made with the demo's first release, Podman or not, so the releases have their digests from the
beginning. So a data folder can move: with each start staging runs on the driver `hosts` or on `local`, as decided then.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from controlplane.embedded.containers import ENVIRONMENT, Choice, podman_of
from controlplane.embedded.images import sample_archive
from controlplane.embedded.podman import Podman, PodmanError, sample_container, why_not
from controlplane.operations.models import OperationLock
from deployments.models import Release
from environments.drivers.hosts.steps import BEFORE, HOLD
from environments.models import Environment, Placement

SLUG = ENVIRONMENT
LOCAL = re.compile(
    rf'(\[environments\.{SLUG}\]\n(?:[^\[\n].*\n)*?)driver = "local"\n\n\[environments\.{SLUG}\.settings\]\n(?:.+\n)*'
)
CONTAINERS = """driver = "hosts"

[environments.staging.settings]
checks = 2
check_interval = 0.2
start_seconds = 20
soak_seconds = 2
stop_seconds = 5

[environments.staging.settings.hosts.this-computer]
engine = {engine}

[environments.staging.settings.container]
"""


def podman() -> Podman:
    """The Podman of this data folder."""
    return podman_of(_data())


def digests() -> dict[str, str]:
    """The digests of the images of the demo's releases by version; empty for a data folder older than images."""
    for path in (_archives() / "digests.json", podman().folder / "digests.json"):
        if path.exists():
            found: dict[str, str] = json.loads(path.read_text())
            return found
    return {}


def decide(image: str, versions: tuple[str, ...]) -> bool:
    """Whether staging runs in containers from now on: as the computer can, and as this folder's past lets it.

    Raises CommandError where an operation works on containers that are not wanted any more.
    """
    if not digests() and not Release.objects.exists():
        _make_archives(image, versions)
    choice, was = Choice.kept(_data()), is_in_containers()
    busy = OperationLock.objects.filter(name=SLUG).exists()
    if not choice.why and not was:
        choice = _hindrance(busy=busy)
    if not choice.why:
        choice = _load(image)
    choice.keep(_data())
    if choice.why and was and not why_not():
        if busy:
            words = "An operation changes staging's containers right now: it was interrupted by the last stop."
            raise CommandError(f"{words} Start without --no-containers, let it end, then start again.")
        podman().remove_all()
    return not choice.why


def is_in_containers() -> bool:
    """Whether staging runs on the driver `hosts`, as the database says."""
    return Environment.objects.filter(slug=SLUG, driver="hosts").exists()


def _hindrance(*, busy: bool) -> Choice:
    """What in this data folder is in the way of moving into containers."""
    known = digests()
    if not known:
        return Choice("this data folder is older than images of its releases", "bin/run --data FOLDER makes a new one.")
    if busy:
        return Choice("an operation that was interrupted goes on there", "Let it end, then start bin/run again.")
    for placement in Placement.objects.filter(environment__slug=SLUG).exclude(version=""):
        if placement.digest not in known.values():
            words = f"it runs {placement.version}, of which the demo has no image"
            return Choice(words, f"Deploy {' or '.join(known)}, then start bin/run again.")
    return Choice()


def _make_archives(image: str, versions: tuple[str, ...]) -> None:
    _archives().mkdir(exist_ok=True)
    made = {}
    for version in versions:
        made[version], archive = sample_archive(image, version)
        (_archives() / f"{version}.tar").write_bytes(archive)
    (_archives() / "digests.json").write_text(json.dumps(made))


def _load(image: str) -> Choice:
    """Have Podman know every image of the demo."""
    ours = podman()
    try:
        for version, digest in digests().items():
            if ours.digest_of(f"{image}:{version}") != digest:
                ours.run("load", given=(_archives() / f"{version}.tar").read_bytes())
    except (PodmanError, OSError) as error:
        return Choice(f"the demo's images cannot be loaded ({error})", "bin/run --data FOLDER makes a new data folder.")
    return Choice()


def configuration(sample: Path) -> Path:
    """The file to apply: the sample, or a copy of it in the data folder with staging in containers."""
    if Choice.kept(_data()).why:
        return sample
    state = _data() / "instances" / SLUG
    for number in (1, 2):
        (state / f"{SLUG}-{number}").mkdir(parents=True, exist_ok=True)
    text = CONTAINERS.format(engine=json.dumps(podman().url))
    text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in sample_container(state).items())
    copy = _data() / sample.name
    copy.write_text(LOCAL.sub(lambda found: found[1] + text, sample.read_text()))
    return copy


@contextmanager
def at_hand() -> Iterator[None]:
    """The engine answers for a block, and what ran before the last stop runs again."""
    if not is_in_containers():
        yield
        return
    ours = podman()
    begins = not ours.answers()  # bin/run has started it already
    if begins:
        ours.start()
    try:
        ended = ours.run("ps", "--all", "--filter", "status=exited", "--format", "{{.Names}}").split()
        for name in ended:
            if not name.endswith((BEFORE, HOLD)):
                ours.run("start", name)
        yield
    finally:
        if begins:
            ours.stop()


def is_empty() -> bool:
    """Whether staging runs in containers, and there is none."""
    return is_in_containers() and not podman().run("ps", "--all", "--quiet")


def _data() -> Path:
    return Path(settings.DATA_DIR).absolute()


def _archives() -> Path:
    return _data() / "images"
