"""What an API server writes into an object besides what it was given, as the API's reference describes it.

Defaults of fields that were left out, amounts in their shortest form, and empty fields that are not sent back.
"""

import json
from fractions import Fraction
from typing import Any

from tests.environments.kubernetes.fields import Object

DECIMAL = {"m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9),
           "T": Fraction(10**12)}  # fmt: skip
BINARY = {"Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40)}
NODE_PORTS = ("LoadBalancer", "NodePort")


def filled(kind: str, given: Object) -> Object:
    """The object as it is kept and sent."""
    found: Object = json.loads(json.dumps(given))
    fill = {"Deployment": _deployment, "Service": _service, "HorizontalPodAutoscaler": _scaler}.get(kind)
    if fill:
        fill(found.setdefault("spec", {}))
    if kind == "Secret":
        found.setdefault("type", "Opaque")
    return found


def _default(found: Object, **values: Any) -> None:
    for key, value in values.items():
        found.setdefault(key, value)


def _deployment(spec: Object) -> None:
    _default(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    _default(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _default(spec["strategy"], rollingUpdate={})
        _default(spec["strategy"]["rollingUpdate"], maxSurge="25%", maxUnavailable="25%")
    template = spec.setdefault("template", {})
    _default(template.setdefault("metadata", {}), creationTimestamp=None)
    _pod(template.setdefault("spec", {}))


def _pod(spec: Object) -> None:
    _default(
        spec, restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler", securityContext={},
        terminationGracePeriodSeconds=30,
    )  # fmt: skip
    # The former name of the field is kept equal to it, so that it outlives the one that is taken away.
    account = spec.pop("serviceAccountName", "") or spec.pop("serviceAccount", "")
    spec.pop("serviceAccount", None)
    if account:
        spec |= {"serviceAccountName": account, "serviceAccount": account}
    for container in spec.get("containers", []):
        _container(container)


def _container(found: Object) -> None:
    name, _, digest = found.get("image", "").partition("@")
    tag = name.rpartition("/")[2].partition(":")[2] or ("" if digest else "latest")
    _default(
        found, imagePullPolicy="Always" if tag == "latest" else "IfNotPresent", resources={},
        terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File",
    )  # fmt: skip
    for port in found.get("ports", []):
        _default(port, protocol="TCP")
    for one in found.get("env", []):
        if one.get("value") == "":
            del one["value"]
        if field := (one.get("valueFrom") or {}).get("fieldRef"):
            _default(field, apiVersion="v1")
    if found.get("env") == []:
        del found["env"]
    for amounts in found["resources"].values():
        for key, amount in amounts.items():
            amounts[key] = shortest(str(amount))
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in found:
            _probe(found[name])


def _probe(found: Object) -> None:
    _default(found, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if found.get("initialDelaySeconds") == 0:
        del found["initialDelaySeconds"]
    if "httpGet" in found:
        _default(found["httpGet"], scheme="HTTP", path="/")


def _service(spec: Object) -> None:
    _default(
        spec, type="ClusterIP", sessionAffinity="None", internalTrafficPolicy="Cluster", clusterIP="10.96.0.7",
        clusterIPs=["10.96.0.7"], ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack",
    )  # fmt: skip
    if spec["type"] in NODE_PORTS:
        _default(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _default(spec, allocateLoadBalancerNodePorts=True)
    for number, port in enumerate(spec.get("ports", [])):
        _default(port, protocol="TCP", targetPort=port["port"])
        if spec["type"] in NODE_PORTS:
            _default(port, nodePort=30_000 + number)


def _scaler(spec: Object) -> None:
    _default(spec, minReplicas=1)
    half = {"type": "Percent", "value": 100, "periodSeconds": 15}
    if "behavior" in spec:  # only who says something of it gets the rest
        _default(spec["behavior"], scaleUp={}, scaleDown={})
        for rules in spec["behavior"].values():
            _default(rules, selectPolicy="Max", policies=[half])


def shortest(amount: str) -> str:
    """An amount with the largest unit that leaves no fraction: 1000m → 1, 0.5 → 500m, 1.5Gi → 1536Mi."""
    digits = amount.rstrip("mkMGTKi")
    unit = amount[len(digits) :]
    family = BINARY if unit in BINARY else DECIMAL
    value = Fraction(digits) * family[unit]
    if family is BINARY and value < 1024:
        family = DECIMAL
    for name, size in reversed(list(family.items())):
        if (value / size).denominator == 1 and (value >= size or name == "m"):
            return f"{value / size}{name}"
    return str(value)
