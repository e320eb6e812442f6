"""Whether a Deployment could go back: its ReplicaSet is kept, and its image in the registry.

Where the registry cannot be asked from here, all that is known is which nodes run the image and so have it; that is
said in these words and lets it pass only while every pod runs it.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from environments.aws import Account
from environments.drivers.base import KEPT_SECONDS, Kept, Software, Target
from environments.drivers.kubernetes import manifests, watch
from environments.drivers.kubernetes.api import Api, Object
from environments.drivers.kubernetes.objects import replica_set_of
from environments.drivers.kubernetes.settings import place_of, setting
from environments.ecr import has_image as ecr_has_image
from environments.ecr import is_in_ecr
from environments.image_names import repository_of
from environments.registries import Login, has_image, parts_of


def kept_in_cluster(target: Target, software: Software) -> Kept:
    """Raises StepError when the cluster cannot be asked, or neither it nor the registry can say."""
    place = place_of(target)
    with Api.at({**place, "answer_seconds": min(KEPT_SECONDS, place["answer_seconds"])}) as api:
        found = api.find("Deployment", place["name"])
        if found is None:
            words = f"there is no Deployment {place['name']} any more to go back from. Deploy {software.version} first."
            return Kept(Outcome.FAILED, words)
        if manifests.digest_of_image(found, place["container"]) not in ("", software.digest):
            words = f"Deployment {place['name']} runs another image than {software.version}. Deploy or adopt one first."
            return Kept(Outcome.FAILED, words)
        name = str(replica_set_of(api, found)["metadata"]["name"])
        login = _login(api, target, parts_of(repository_of(software.image))[0])
        running = _nodes_that_run(api, place, found, software.digest)
    return _in_registry(target, software, name, login, running)


def _in_registry(target: Target, software: Software, kept: str, login: Login | None, running: list[str]) -> Kept:
    repository = repository_of(software.image)
    try:
        if is_in_ecr(repository):
            there = ecr_has_image(Account.of({"region": "", **target.settings}), repository, software.digest)
        else:
            there = has_image(repository, software.digest, login)
    except StepError as error:
        if not running:
            words = f"whether the image of {software.version} is still there is not known: {error}"
            raise StepError(words, permanent=error.permanent) from error
        nodes = f"{len(running)} node{'s' if len(running) > 1 else ''} that run it ({', '.join(running)})"
        words = (
            f"ReplicaSet {kept} is kept and its image is on the {nodes}; whether other nodes could pull it is not known"
        )
        return Kept(Outcome.PASSED, f"{words}: {error}")
    if there:
        return Kept(Outcome.PASSED, f"ReplicaSet {kept} is kept, and its image is in the registry, by its digest")
    words = f"{repository} does not have the image of {software.version} any more: other nodes could not start it."
    return Kept(Outcome.FAILED, f"{words} Push it again.")


def _nodes_that_run(api: Api, place: Mapping[str, Any], found: Object, digest: str) -> list[str]:
    """The nodes of its pods, if every one of them is ready with this digest; none otherwise."""
    container = manifests.container_in(found, place["container"]).get("name")
    nodes = []
    for pod in watch.pods_of(api, found):
        statuses = (pod.get("status") or {}).get("containerStatuses") or []
        mine: Object = next((one for one in statuses if one["name"] == container), {})
        if str(mine.get("imageID", "")).rpartition("@")[2] != digest or not mine.get("ready"):
            return []
        nodes.append(str((pod.get("spec") or {}).get("nodeName") or "a node without a name"))
    return list(dict.fromkeys(nodes))


def _login(api: Api, target: Target, host: str) -> Login | None:
    """As the cluster itself would sign in: out of the Secret that pods pull with, if we may read it."""
    name = str(setting(target, "pull_secret"))
    if not name:
        return None
    try:
        secret = api.find("Secret", name) or {}
        config = json.loads(base64.b64decode((secret.get("data") or {}).get(".dockerconfigjson", "")))
        given = next(one for key, one in config["auths"].items() if host in (key, key.split("//")[-1].split("/")[0]))
        both = base64.b64decode(given["auth"]).decode() if given.get("auth") else ""
        username, _, password = both.partition(":")
        return Login(username or str(given["username"]), password or str(given["password"]))
    except (StepError, StopIteration, ValueError, KeyError, TypeError, AttributeError):
        return None  # then the registry is asked without, and says whether that is enough
