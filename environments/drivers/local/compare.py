"""What runs at local instances beside what was deployed."""

from collections.abc import Iterator

from environments.addresses import NoAnswer, get
from environments.drivers.base import Difference, Instance, Kept, Software, Target
from environments.drivers.local.driver import folder_of, has_other_variables
from environments.drivers.local.instance_folder import InstanceFolder
from environments.drivers.local.kept import kept_locally
from environments.drivers.local.scale import ScalableLocalDriver
from environments.drivers.local.steps import instance_folder


class ComparableLocalDriver(ScalableLocalDriver):
    """See `base.Driver`, `base.Scalable`, `base.Comparable` and `base.Keeping`."""

    def differences(self, target: Target, deployed: Software) -> list[Difference]:
        """By instance: what its folder says, and, for what was put in its place, what answers at its address."""
        return [one for instance in target.instances for one in _differences(target, instance, deployed)]

    def kept(self, target: Target, software: Software) -> Kept:
        """Whether the program's own files are there."""
        return kept_locally(target, software)


def _differences(target: Target, instance: Instance, deployed: Software) -> Iterator[Difference]:
    folder = instance_folder(folder_of(target, instance))
    answers = _answering(instance)
    if not folder.occupied:
        yield Difference("count", instance.name, f"{deployed.version} runs", _absence(folder, answers))
        return
    wanted = folder.wanted
    runs = f"{wanted.get('version', 'something unknown')} {wanted.get('digest', '')}".strip()
    if wanted.get("digest") != deployed.digest:
        yield Difference("image", instance.name, f"{deployed.version} {deployed.digest}", runs)
    elif answers and answers != wanted.get("version"):
        found = f"{answers} answers at its address, not the process that was started"
        yield Difference("image", instance.name, f"{deployed.version} {deployed.digest}", found)
    if has_other_variables(target, folder):
        now, then = target.settings["configuration"], wanted["configuration"]
        yield Difference("environment", instance.name, f"the configuration {now}", f"the configuration {then}")
    if folder.marker.exists():
        yield Difference("registration", instance.name, "in rotation", "out of rotation")


def _answering(instance: Instance) -> str:
    """The version that answers there, "" when nobody says."""
    if not instance.address:
        return ""
    try:
        answer = get(f"{instance.address}/version")
        return str(answer.json().get("version", "")) if answer.status == 200 else ""
    except NoAnswer:
        return ""


def _absence(folder: InstanceFolder, answers: str) -> str:
    if answers:
        return f"a process that was not started from here answers as {answers}"
    last = folder.ran_last.get("version", "")
    if folder.is_held:
        return f"stopped on purpose, {last} ran" if last else "stopped on purpose"
    return f"{last} has ended" if last else "nothing runs"
