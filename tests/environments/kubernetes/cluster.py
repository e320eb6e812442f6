"""A stand-in for a cluster: objects with versions and managers, and controllers whose time is how often one looks.

Each look (a GET of a Deployment, a watch) lets the controllers do one thing more, so that slow rollouts take no time.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from tests.environments.kubernetes.defaults import filled
from tests.environments.kubernetes.fields import Managed, Object, managed, object_of

PLURALS = {
    "deployments": "Deployment", "replicasets": "ReplicaSet", "services": "Service", "secrets": "Secret",
    "pods": "Pod", "events": "Event", "endpointslices": "EndpointSlice",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
}  # fmt: skip
REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
VERSION = "resourceVersion"
WELL, CRASHES, UNPULLABLE, STUCK, STUMBLES = "well", "crashes", "cannot be pulled", "never ready", "crashes once"


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, reason: str, message: str, causes: list[Object] | None = None) -> None:
        super().__init__(message)
        self.status = {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
            "message": message, "details": {"causes": causes or []},
        }  # fmt: skip
        self.code = code


@dataclass
class Cluster:
    """behaviours: of images, by digest. quota: how many pods there may be. slow: looks until a pod is ready.

    patience: looks until the cluster says of a rollout that it does not get on.

    order_stays: see `fields.Managed`.
    """

    behaviours: dict[str, str] = field(default_factory=dict)
    logs: list[str] = field(default_factory=lambda: ["cannot reach its database"])
    quota: int = 1000
    slow: int = 1
    patience: int = 12
    page: int = 2
    oldest: int = 0  # older versions cannot be watched from
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    managed: dict[tuple[str, str], Managed] = field(default_factory=dict)
    version: int = 100
    uid: int = 0
    news: list[tuple[int, str, Object]] = field(default_factory=list)
    lock: RLock = field(default_factory=RLock)
    ages: dict[str, int] = field(default_factory=dict)
    stuck: int = 0
    order_stays: bool = False

    # --- what is kept -------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Object:
        """Raises Refusal."""
        if (kind, name) not in self.objects:
            raise Refusal(404, "NotFound", f'{kind.lower()}s "{name}" not found')
        return self.objects[kind, name]

    def of(self, kind: str) -> list[Object]:
        """All of a kind."""
        return [one for (what, _), one in self.objects.items() if what == kind]

    def keep(self, kind: str, name: str, found: Object) -> Object:
        """Write it with the next version, and tell the watches."""
        self.version += 1
        what = "MODIFIED" if (kind, name) in self.objects else "ADDED"
        found["metadata"]["resourceVersion"] = str(self.version)
        self.objects[kind, name] = found
        self.news.append((self.version, what, found))
        return found

    def create(self, kind: str, document: Object, manager: str) -> Object:
        """POST. Raises Refusal when it is there."""
        name = document["metadata"]["name"]
        if (kind, name) in self.objects:
            raise Refusal(409, "AlreadyExists", f'{kind.lower()}s "{name}" already exists')
        self.managed[kind, name] = Managed(order_stays=self.order_stays)
        self.managed[kind, name].update(manager, filled(kind, document))
        return self._write(kind, name, document)

    def apply(self, kind: str, document: Object, manager: str, *, force: bool) -> Object:
        """PATCH with an apply configuration. Raises Refusal."""
        name = document["metadata"]["name"]
        held = self.managed.setdefault((kind, name), Managed())
        now = self.objects.get((kind, name))
        self._same_version(document["metadata"].get("resourceVersion"), now)
        if not force and (conflicts := held.conflicts(manager, document)):
            causes = [
                {"reason": "FieldManagerConflict", "message": f'conflict with "{who}" using apps/v1', "field": path}
                for who, path in conflicts
            ]
            raise Refusal(409, "Conflict", f"Apply failed with {len(causes)} conflicts", causes)
        held.apply(manager, document)
        return self._write(kind, name, document)

    def patch(self, kind: str, name: str, operations: list[Object]) -> Object:
        """PATCH with a JSON patch, of which only other managers are understood. Raises Refusal."""
        values = {one["path"]: one["value"] for one in operations}
        found = self.get(kind, name)
        self._same_version(values.get("/metadata/resourceVersion"), found)
        self.managed[kind, name].rewrite(values["/metadata/managedFields"])
        return self._write(kind, name, found)

    def _same_version(self, wanted: str | None, now: Object | None) -> None:
        if wanted and wanted != (now or {"metadata": {}})["metadata"].get("resourceVersion"):
            raise Refusal(409, "Conflict", "the object has been modified; please apply your changes to the latest")

    def update(self, kind: str, name: str, document: Object, manager: str) -> Object:
        """What another program changes, as `kubectl edit` and `kubectl scale` do."""
        self.managed[kind, name].update(manager, document)
        return self._write(kind, name, self.objects[kind, name])

    def _write(self, kind: str, name: str, document: Object) -> Object:
        before = self.objects.get((kind, name))
        found = filled(kind, object_of(self.managed[kind, name].leaves))
        self.managed[kind, name].leaves = managed(found)
        found = {"apiVersion": document["apiVersion"], "kind": kind, **found}
        meta = found.setdefault("metadata", {})
        same = before is not None and before.get("spec") == found.get("spec")
        generation = before["metadata"]["generation"] + (not same) if before else 1
        if before is None:
            self.uid += 1
        meta |= {
            "name": name, "namespace": "production", "generation": generation,
            "uid": before["metadata"]["uid"] if before else f"uid-{self.uid}",
            "managedFields": self.managed[kind, name].shown(document["apiVersion"]),
            "creationTimestamp": "2026-11-29T07:00:00Z",
        }  # fmt: skip
        if before and "status" in before:
            found["status"] = before["status"]
        if before and REVISION in before["metadata"].get("annotations", {}):
            meta.setdefault("annotations", {})[REVISION] = before["metadata"]["annotations"][REVISION]
        if before and found == {**before, "metadata": {k: v for k, v in before["metadata"].items() if k != VERSION}}:
            return before  # nothing has changed, so neither does the version
        return self.keep(kind, name, found)

    def delete(self, kind: str, name: str, body: Object) -> None:
        """DELETE with preconditions, and what belongs to it. Raises Refusal."""
        meta = self.get(kind, name)["metadata"]
        for key, value in (body.get("preconditions") or {}).items():
            if meta[key] != value:
                raise Refusal(409, "Conflict", f"Precondition failed: {key}")
        self.objects.pop((kind, name))
        self.managed.pop((kind, name), None)
        for what, other in list(self.objects):
            if what in ("ReplicaSet", "Pod") and other.startswith(f"{name}-"):
                self.objects.pop((what, other))

    def since(self, version: int, kind: str, name: str) -> Iterator[tuple[str, Object]]:
        """What a watch brings. Raises Refusal when it asks for too old news."""
        if version < self.oldest:
            raise Refusal(410, "Expired", "too old resource version")
        for number, what, found in self.news:
            if number > version and found.get("kind") == kind and found["metadata"]["name"] == name:
                yield what, found

    # --- the controllers ----------------------------------------------------------------------------

    def tick(self) -> None:
        """One thing more is done for every Deployment."""
        for one in list(self.of("Deployment")):
            self._roll(one)

    def settle(self) -> None:
        """Until nothing moves any more, as far as it can."""
        for _ in range(40):
            self.tick()

    def _roll(self, found: Object) -> None:
        name, wanted = found["metadata"]["name"], found["spec"]["replicas"]
        current = self._replica_set(found)
        mark = current["metadata"]["labels"][HASH]
        pods = [one for one in self.of("Pod") if one["metadata"]["labels"]["app"] == name]
        new = [one for one in pods if one["metadata"]["labels"][HASH] == mark]
        old = [one for one in pods if one not in new]
        for pod in new:
            self._live(pod)
        refused = ""
        ready = [one for one in new if one["status"]["containerStatuses"][0]["ready"]]
        if len(new) < wanted and len(pods) >= self.quota:
            refused = 'pods "x" is forbidden: exceeded quota: compute-resources'
        elif len(new) < wanted and len(ready) == len(new):
            new.append(self._pod(name, current, mark))
        elif len(new) > wanted:
            self.objects.pop(("Pod", new.pop()["metadata"]["name"]))
        if old and len(ready) + len(old) > wanted:
            self.objects.pop(("Pod", old.pop()["metadata"]["name"]))
        self._status(found, new, old, refused)

    def _replica_set(self, found: Object) -> Object:
        template, name = found["spec"]["template"], found["metadata"]["name"]
        mark = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        key = f"{name}-{mark}"
        sets = [one for one in self.of("ReplicaSet") if one["metadata"]["labels"]["app"] == name]
        newest = max((int(one["metadata"]["annotations"][REVISION]) for one in sets), default=0)
        there = self.objects.get(("ReplicaSet", key))
        if there is None or int(there["metadata"]["annotations"][REVISION]) < newest:
            labels = {**template["metadata"]["labels"], HASH: mark}
            there = {
                "kind": "ReplicaSet",
                "metadata": {
                    "name": key, "uid": f"uid-of-{key}", "labels": {"app": name, HASH: mark},
                    "annotations": {REVISION: str(newest + 1)},
                    "ownerReferences": [{"uid": found["metadata"]["uid"]}],
                },
                "spec": {"template": {**template, "metadata": {**template["metadata"], "labels": labels}}},
            }  # fmt: skip
            self.keep("ReplicaSet", key, there)
            self.stuck = 0
        annotations = found["metadata"].setdefault("annotations", {})
        annotations[REVISION] = there["metadata"]["annotations"][REVISION]
        return there

    def _pod(self, name: str, current: Object, mark: str) -> Object:
        self.uid += 1
        container = current["spec"]["template"]["spec"]["containers"][0]
        digest = container["image"].partition("@")[2] or self.behaviours.get(container["image"], "")
        status = {"name": container["name"], "ready": False, "restartCount": 0, "state": {}, "imageID": f"x@{digest}"}
        labels = {**current["spec"]["template"]["metadata"]["labels"], "app": name, HASH: mark}
        pod = {
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-{mark}-{self.uid}",
                "uid": f"uid-{self.uid}",
                "labels": labels,
                "ownerReferences": [{"uid": current["metadata"]["uid"]}],
            },
            "status": {"phase": "Pending", "podIP": f"10.0.0.{self.uid % 250}", "containerStatuses": [status]},
        }
        return self.keep("Pod", str(pod["metadata"]["name"]), pod)  # type: ignore[index]

    def _live(self, pod: Object) -> None:
        status, name = pod["status"]["containerStatuses"][0], pod["metadata"]["name"]
        self.ages[name] = age = self.ages.get(name, 0) + 1
        kind = self.behaviours.get(status["imageID"].partition("@")[2], WELL)
        if kind == CRASHES:
            status |= {
                "restartCount": status["restartCount"] + 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 3}},
            }
            self._event(name, "BackOff", "Back-off restarting failed container", age)
        elif kind == UNPULLABLE:
            reason = "ErrImagePull" if age == 1 else "ImagePullBackOff"
            status["state"] = {"waiting": {"reason": reason, "message": "manifest unknown"}}
            self._event(name, "Failed", "Failed to pull image: manifest unknown", age)
        elif kind == STUMBLES and age == 1:
            status |= {"restartCount": 1, "lastState": {"terminated": {"exitCode": 1}}}
        elif kind != STUCK and age >= self.slow:
            status |= {"ready": True, "state": {"running": {}}}
            pod["status"]["phase"] = "Running"

    def _event(self, name: str, reason: str, message: str, count: int) -> None:
        found = {
            "kind": "Event", "type": "Warning", "reason": reason, "message": message, "count": count,
            "involvedObject": {"name": name}, "metadata": {"name": f"{name}.{reason}", "uid": f"{name}.{reason}"},
        }  # fmt: skip
        self.keep("Event", f"{name}.{reason}", found)

    def _status(self, found: Object, new: list[Object], old: list[Object], refused: str) -> None:
        name, wanted = found["metadata"]["name"], found["spec"]["replicas"]
        ready = [one for one in (*new, *old) if one["status"]["containerStatuses"][0]["ready"]]
        fresh = [one for one in new if one in ready]
        self.stuck = 0 if len(fresh) == wanted else self.stuck + 1
        conditions = [{"type": "Available", "status": "True" if len(ready) >= wanted else "False"}]
        if refused:
            conditions.append({"type": "ReplicaFailure", "status": "True", "message": refused})
        if self.stuck > self.patience:
            conditions.append({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                               "message": "has timed out progressing"})  # fmt: skip
        before = found.get("status")
        found["status"] = {
            "observedGeneration": found["metadata"]["generation"], "replicas": len(new) + len(old),
            "updatedReplicas": len(new), "readyReplicas": len(ready), "availableReplicas": len(ready),
            "conditions": conditions,
        }  # fmt: skip
        if found["status"] != before:
            self.keep("Deployment", name, found)
        for one in (*new, *old):
            one["status"]["conditions"] = [{"type": "Ready", "status": "True" if one in ready else "False"}]
        self.endpoints(name)

    def endpoints(self, name: str) -> None:
        """Of a Service, if there is one: the pods that its selector chooses."""
        if service := self.objects.get(("Service", name)):
            endpoints = [_endpoint(one) for one in self.of("Pod") if _is_chosen(one, service)]
            self.objects["EndpointSlice", f"{name}-x"] = {
                "kind": "EndpointSlice", "endpoints": endpoints,
                "metadata": {"name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}},
            }  # fmt: skip

    def other_pods(self, app: str, count: int) -> None:
        """Pods that belong to nobody and are well."""
        for number in range(count):
            self.uid += 1
            status = {"phase": "Running", "podIP": f"10.1.0.{number}", "containerStatuses": [],
                      "conditions": [{"type": "Ready", "status": "True"}]}  # fmt: skip
            meta = {"name": f"{app}-{number}", "uid": f"uid-{self.uid}", "labels": {"app": app, HASH: "other"}}
            self.keep("Pod", f"{app}-{number}", {"kind": "Pod", "metadata": meta, "status": status})

    def shown(self, found: Object) -> Any:
        """As it is sent: what is changed later does not change it."""
        return json.loads(json.dumps(found))


def _is_chosen(pod: Object, service: Object) -> bool:
    chosen: bool = service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    return chosen


def _endpoint(pod: Object) -> Object:
    ready = any(one["status"] == "True" for one in pod["status"].get("conditions") or [])
    reference = {"kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    return {"addresses": [pod["status"]["podIP"]], "conditions": {"ready": ready}, "targetRef": reference}
