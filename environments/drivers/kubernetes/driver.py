"""The kubernetes driver: the guide's Deployment, Service and HorizontalPodAutoscaler, applied and watched.

1. apply the Service, and the Secret with the environment's secret variables;
2. apply the Deployment, with the image by digest, server-side and as the manager `controlplane`;
3. give it its number of pods, or the HorizontalPodAutoscaler that does;
4. wait until the rollout is complete and every pod is an endpoint of the Service; check health.

A deployment that answers a difference takes back first what others manage by now, by name; `_taken` says which.

If 2, 3 or 4 fail, the former template is applied again, out of the former ReplicaSet. A plan names what runs by what is
in it, so that one that waits behind another deployment stays true; the name of the ReplicaSet is noted by the first
step, before anything is changed. docs/drivers-kubernetes.md has the rest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

from controlplane.operations.errors import StepError
from controlplane.operations.plans import ALREADY, Arguments, Retry, StepSpec
from controlplane.operations.registry import StepFunction
from environments.drivers.base import Difference, Document, Kept, Rollout, Running, Scaling, Software, Target
from environments.drivers.kubernetes import compare, manifests, watch
from environments.drivers.kubernetes.api import Api, Claim, Object
from environments.drivers.kubernetes.around import look_around
from environments.drivers.kubernetes.back import STEPS as BACK_STEPS
from environments.drivers.kubernetes.claims import is_of_image
from environments.drivers.kubernetes.compare import NOTHING
from environments.drivers.kubernetes.former import STEPS as FORMER_STEPS
from environments.drivers.kubernetes.health import STEPS as HEALTH_STEPS
from environments.drivers.kubernetes.kept import kept_in_cluster
from environments.drivers.kubernetes.manifests import CONFIGURATION, SHAPE, marks_of
from environments.drivers.kubernetes.objects import replica_set_of
from environments.drivers.kubernetes.scale import STEPS as SCALING_STEPS
from environments.drivers.kubernetes.settings import autoscale_of, name_of, place_of, problems, setting
from environments.drivers.kubernetes.steps import STEPS as OBJECT_STEPS
from environments.drivers.kubernetes.taking import STEPS as TAKING_STEPS
from environments.image_names import repository_of

TIMEOUT = 120.0
ATTEMPTS = 5
BACK = "put-back/"  # begins the key of each step on the way back


@dataclass(frozen=True)
class RunningPods(Running):
    """What runs, its ReplicaSet as reference, which no plan depends on. shape: see `compare.what_runs`.

    configuration: that its pods were started with. changed: somebody changed in the cluster what a deployment would put
    right. stopped: somebody scaled it to 0. claims: what others manage of what we write, with the kind of its object.
    """

    shape: str = ""
    configuration: str = ""
    changed: bool = False
    stopped: bool = False
    claims: tuple[tuple[str, Claim], ...] = ()

    def after(self, target: Target, to: Software) -> Running:
        """See `base.Running`: with its image, shape and configuration by the settings of now."""
        template = _document(target, to)["spec"]["template"]
        marks, image = marks_of(template), template["spec"]["containers"][0]["image"]
        return replace(
            self, version=to.version, digest=to.digest, image=image, reference="",
            shape=marks[SHAPE], configuration=marks[CONFIGURATION], changed=False,
            stopped=self.stopped and not _answers(target, to), claims=(),
        )  # fmt: skip


class KubernetesDriver:
    """See `base.Driver`."""

    name = "kubernetes"
    addressed = False

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = {
            **FORMER_STEPS,
            **TAKING_STEPS,
            **OBJECT_STEPS,
            **watch.STEPS,
            **HEALTH_STEPS,
            **BACK_STEPS,
            **SCALING_STEPS,
        }

    def running(self, target: Target) -> list[Running]:
        """What the Deployment's template says, as one row. reference: the name of its ReplicaSet."""
        place = place_of(target)
        with Api.at(place) as api:
            found = api.find("Deployment", place["name"])
            if found is None:
                return [RunningPods(place["instance"], "", "")]
            kept = replica_set_of(api, found)
            image = str(manifests.container_in(found, place["container"]).get("image", ""))
            runs = compare.what_runs(found, manifests.deployment(target, "", ""), place["container"])
            runs["digest"] = runs["digest"] or _digest_of_pods(api, place, found)
            around = look_around(api, target, found)
        return [
            RunningPods(
                place["instance"], image=image, reference=kept["metadata"]["name"],
                changed=compare.was_changed(target, found, around),
                stopped=compare.was_stopped_by_others(target, found),
                claims=tuple(compare.claims(target, found, around)), **runs,
            )
        ]  # fmt: skip

    def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
        """The objects one after the other, and the former template for the way back."""
        now = running[0]
        if not isinstance(now, RunningPods):
            raise TypeError("kubernetes plans from what kubernetes found")
        document = _document(target, to)
        shape = marks_of(document["spec"]["template"])[SHAPE]
        configuration = target.settings.get("configuration", "")
        same = (now.shape, now.digest) == (shape, to.digest) and configuration in ("", now.configuration)
        same = same and not now.changed and not (now.stopped and _answers(target, to))
        before = f"{_named(now)}, changed in the cluster" if now.changed and now.digest == to.digest else _named(now)
        change = {"what": now.instance, "from": before, "to": ALREADY if same else _named(to)}
        if same:
            return Rollout((), (), (change,))
        steps, recovery = _renewal(target, now, to, document)
        name = name_of(target)
        objects = {"what": f"Deployment {name}", "from": f"its template with {_named(now)}" if now.version else NOTHING,
                   "to": f"a template with {to.digest}"}  # fmt: skip
        return Rollout(steps, recovery, (change, objects, *_put_right(target, now, to, document)))

    def scale(self, target: Target, count: int, software: Software | None, *, key: str) -> Scaling:
        """The steps to so many pods; see `base.Scalable`. Software without a digest leaves the image as it is."""
        place, name = place_of(target), name_of(target)
        poll, seconds = float(setting(target, "poll_seconds")), float(setting(target, "rollout_seconds"))
        digest = software.digest if software and count else ""
        begin: list[StepSpec] = []
        if digest and software:
            begin = _apply(target, software, _document(target, software), may_go_back=False, prefix=f"{key}/")
        asked = {"place": place, "count": count}
        begin.append(_spec(target, f"{key}/scale", f"ask for {count} pods of {name}", "scale", asked))
        if count == 0:
            down = _spec(target, f"{key}/down", f"see that no pod of {name} runs", "down",
                         {"place": place, "poll": poll}, timeout=seconds)  # fmt: skip
            return Scaling(tuple(begin), (down,))
        up = _spec(target, f"{key}/up", f"wait until {count} pods of {name} are well", "scaled",
                   {**asked, "poll": poll, "digest": digest}, timeout=seconds)  # fmt: skip
        return Scaling(tuple(begin), (up, *_check(target, f"{key}/", (), may_be_stopped=False)))

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with driver settings, in words, by key."""
        return problems(given)

    def address_for(self, environment: str, instance: str) -> str:
        """Kubernetes gives out none beforehand: a service answers at its environment's URL. Raises StepError."""
        words = f"Pods come and go, so {instance} has no address: leave it out, and give {environment} its url."
        raise StepError(words, permanent=True)

    def differences(self, target: Target, deployed: Software) -> list[Difference]:
        """Image, count, variables, Service, autoscaler, pods and endpoints against what was deployed."""
        place = place_of(target)
        with Api.at(place) as api:
            found = api.find("Deployment", place["name"])
            if found is None:
                return [Difference("image", place["instance"], _named(deployed), NOTHING)]
            around = look_around(api, target, found)
        return compare.differences(target, found, deployed, around)

    def kept(self, target: Target, software: Software) -> Kept:
        """Whether its ReplicaSet is kept and its image in the registry."""
        return kept_in_cluster(target, software)

    def documents(self, target: Target, software: Software, variables: Mapping[str, str]) -> list[Document]:
        """The manifests, as they would be applied. A secret is a `secrets.Reference` in the variables."""
        configuration = target.settings.get("configuration", "")
        elsewhere = target.settings.get("secrets", {})
        plain, hidden = manifests.split(manifests.variables_from(variables), elsewhere)
        bare = _document(target, software)
        whole = manifests.with_variables(bare, plain, list(hidden), elsewhere, configuration)
        if autoscale_of(target) is None:
            whole = {**whole, "spec": {**whole["spec"], "replicas": manifests.replicas(target)}}
        kept = {name: variables[name] for name in hidden}
        objects = {
            "secret.yaml": manifests.secret(bare, configuration, kept) if kept else None,
            "service.yaml": manifests.service(target),
            "deployment.yaml": whole,
            "autoscaler.yaml": manifests.autoscaler(target),
        }
        return [Document(name, yaml.safe_dump(one, sort_keys=False)) for name, one in objects.items() if one]


# --- the plan: pure -----------------------------------------------------------------------------------


def _named(software: Running | Software) -> str:
    return f"{software.version} {software.digest}".strip() or NOTHING


def _document(target: Target, to: Software) -> Object:
    if not to.digest or not to.image:
        missing = "digest" if to.image else "name"
        words = f"{to.version} has no image {missing}, so nobody could say what would run. Add the release with it."
        raise StepError(words, permanent=True)
    return manifests.deployment(target, f"{repository_of(to.image)}@{to.digest}", to.version)


def _spec(target: Target, key: str, title: str, function: str, arguments: Arguments, **values: Any) -> StepSpec:
    retry = Retry(attempts=ATTEMPTS, wait=float(setting(target, "retry_seconds")))
    return StepSpec(key, title, f"kubernetes.{function}", arguments, retry=retry, **{"timeout": TIMEOUT, **values})


def _apply(
    target: Target, to: Software, document: Object, *, may_go_back: bool, start: bool = False, prefix: str = "",
    undo: tuple[str, ...] = (),
) -> list[StepSpec]:  # fmt: skip
    """Service, Secret, Deployment, and its count or what counts. may_go_back: see `steps._deploy`.

    start: bring back its pods where somebody scaled it to 0; an autoscaler does nothing for 0 pods.
    """
    place, force, name = place_of(target), setting(target, "force"), name_of(target)
    configuration, elsewhere = target.settings.get("configuration", ""), dict(target.settings.get("secrets", {}))
    common: Arguments = {"place": place, "force": force}
    bare = {"metadata": document["metadata"]}
    steps = []
    if wanted := manifests.service(target):
        title = f"apply Service {name}"
        steps.append(_spec(target, f"{prefix}service", title, "object", {**common, "document": wanted}))
    given = {"configuration": configuration, "elsewhere": elsewhere}
    steps.append(_spec(target, f"{prefix}secret", "apply the Secret with its variables", "secret",
                       {**common, **given, "document": bare}))  # fmt: skip
    begun = {"version": to.version, "digest": to.digest, "may_go_back": may_go_back,
             "replicas": manifests.replicas(target)}  # fmt: skip
    steps.append(_spec(target, f"{prefix}deployment", f"apply Deployment {name} with {to.version}", "deployment",
                       {**common, **given, **begun, "document": document}, on_failure=undo))  # fmt: skip
    scaler = manifests.autoscaler(target)
    if scaler:
        title = f"apply HorizontalPodAutoscaler {name}-hpa"
        steps.append(_spec(target, f"{prefix}hpa", title, "object", {**common, "document": scaler}, on_failure=undo))
    if start or (may_go_back and not scaler):
        asked = {"replicas": manifests.replicas(target), "start": start, "least": scaler is not None}
        steps.append(_spec(target, f"{prefix}count", f"ask for {asked['replicas']} pods", "count",
                           {**common, **asked}, on_failure=undo))  # fmt: skip
    return steps


def _answers(target: Target, to: Software) -> bool:
    """It is what was deployed there: an answer to what differs from that by now."""
    return bool(target.deployed) and to.digest == target.deployed


def _taken(target: Target, now: RunningPods, to: Software, document: Object) -> dict[str, list[Claim]]:
    """The fields that a deployment takes back from others, by the kind of their object.

    One of what was deployed takes back whatever differs from it. Any other takes only an image that was adopted, which
    is to be replaced now; all the rest stays with whoever manages it, and stops the deployment.
    """
    image = document["spec"]["template"]["spec"]["containers"][0]["image"]
    found: dict[str, list[Claim]] = {}
    for kind, claim in now.claims:
        of_image = is_of_image(claim)
        wanted = _answers(target, to) or (of_image and bool(target.deployed) and now.digest == target.deployed)
        if wanted and not (of_image and claim.field.endswith(".image") and now.image == image):
            found.setdefault(kind, []).append(claim)
    return found


def _named_as(target: Target, kind: str) -> str:
    return f"{name_of(target)}-hpa" if kind == "HorizontalPodAutoscaler" else name_of(target)


def _taking(target: Target, now: RunningPods, to: Software, document: Object) -> Iterator[StepSpec]:
    for kind, claims in _taken(target, now, to, document).items():
        name = _named_as(target, kind)
        fields = [asdict(claim) for claim in claims]
        yield _spec(target, f"take/{kind}", f"take back fields of {kind} {name} that others manage", "take",
                    {"place": place_of(target), "kind": kind, "name": name, "fields": fields})  # fmt: skip


def _put_right(target: Target, now: RunningPods, to: Software, document: Object) -> Iterator[dict[str, str]]:
    """What a plan says of the fields that it takes back, and of the pods that it starts."""
    if now.stopped and _answers(target, to):
        pods = {"from": "0, as somebody scaled it", "to": str(manifests.replicas(target))}
        yield {"what": f"pods of Deployment {name_of(target)}", **pods}
    for kind, claims in _taken(target, now, to, document).items():
        for claim in claims:
            yield {"what": f"{claim.field} of {kind} {_named_as(target, kind)}",
                   "from": f"managed by {claim.manager}", "to": "taken back"}  # fmt: skip


def _rolled(target: Target, digest: str, prefix: str, undo: tuple[str, ...]) -> StepSpec:
    arguments = {
        "place": place_of(target),
        "poll": float(setting(target, "poll_seconds")),
        "digest": digest,
        "restarts": setting(target, "restarts"),
        "lines": setting(target, "log_lines"),
        "registered": manifests.service(target) is not None,
        "back": prefix == BACK,
    }
    seconds = float(setting(target, "rollout_seconds"))
    return _spec(target, f"{prefix}rolled", "wait until all pods are renewed", "rolled", arguments,
                 timeout=seconds, on_failure=undo)  # fmt: skip


def _check(target: Target, prefix: str, undo: tuple[str, ...], *, may_be_stopped: bool = True) -> list[StepSpec]:
    """Ask the health URL, if there is one. may_be_stopped: a Deployment that is left at 0 pods has nobody to answer."""
    url = (target.url or next((one.address for one in target.instances), "")).rstrip("/") + target.health_path
    if "://" not in url:
        return []
    checks, failures = setting(target, "checks"), setting(target, "failures")
    interval = float(setting(target, "check_interval"))
    arguments = {"place": place_of(target), "url": url, "checks": checks, "failures": failures, "interval": interval,
                 "may_be_stopped": may_be_stopped, "back": prefix == BACK}  # fmt: skip
    timeout = TIMEOUT + (checks + failures) * (interval + 6)
    return [_spec(target, f"{prefix}check", "check health", "check", arguments, timeout=timeout, on_failure=undo)]


def _what_runs(now: RunningPods) -> Arguments:
    """As `compare.what_runs` says it of the Deployment."""
    if not now.version:
        return {}
    return {"version": now.version, "digest": now.digest, "shape": now.shape, "configuration": now.configuration}


def _renewal(
    target: Target, now: RunningPods, to: Software, document: Object
) -> tuple[tuple[StepSpec, ...], tuple[StepSpec, ...]]:
    runs = _what_runs(now)
    # The former template comes out of the cluster; what is around it stays as it is applied now.
    back = {"place": place_of(target), "runs": runs, "document": document, "force": setting(target, "force")}
    title = f"apply the former template again ({now.version})" if runs else "delete the Deployment that was made"
    recovery = [_spec(target, f"{BACK}deployment", title, "back", back)]
    if runs:
        # An image that only a tag names has no digest to compare.
        pinned = now.digest if now.image.endswith(f"@{now.digest}") else ""
        recovery += [_rolled(target, pinned, BACK, ()), *_check(target, BACK, ())]
    undo = tuple(step.key for step in recovery)
    look = {"place": place_of(target), "runs": runs, "document": document}
    start = now.stopped and _answers(target, to)
    steps = [
        _spec(target, "former", "see that it is what the plan was made for", "former", look, safe_point=True),
        *_taking(target, now, to, document),
        *_apply(target, to, document, may_go_back=True, start=start, undo=undo),
        _rolled(target, to.digest, "", undo),
        *_check(target, "", undo),
    ]
    return tuple(steps), tuple(recovery)


# --- what runs ----------------------------------------------------------------------------------------


def _digest_of_pods(api: Api, place: Arguments, found: Object) -> str:
    """The digest that all pods truly got, whatever a tag said; "" where they differ, or do not say."""
    digests = {
        str(one.get("imageID", "")).rpartition("@")[2]
        for pod in watch.pods_of(api, found)
        for one in (pod.get("status") or {}).get("containerStatuses") or []
        if one["name"] == manifests.container_in(found, place["container"]).get("name")
    } - {""}
    return digests.pop() if len(digests) == 1 else ""
