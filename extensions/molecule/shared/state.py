# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a namespace, and what became of it since the last look; as JSON, without a secret value.

    state.py NAMESPACE FILE

FILE keeps the look. Printed are names as Kind/name, by what happened to them since: ``made``, ``gone``, ``changed``
(what is declared, not its status) and ``replaced`` (made anew); ``rolled_out``, the apps none of whose pods is an older
one; ``pods`` and ``ready``, by app; ``leaks``, what shows the value of a Secret though it is none. KUBECONFIG says
where. It is a look from outside: nothing of the collection is used.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import kubernetes

LISTS = {
    "ConfigMap": "api/v1/{}/configmaps",
    "PersistentVolumeClaim": "api/v1/{}/persistentvolumeclaims",
    "Secret": "api/v1/{}/secrets",
    "Service": "api/v1/{}/services",
    "ServiceAccount": "api/v1/{}/serviceaccounts",
    "Deployment": "apis/apps/v1/{}/deployments",
    "StatefulSet": "apis/apps/v1/{}/statefulsets",
    "Job": "apis/batch/v1/{}/jobs",
    "Ingress": "apis/networking.k8s.io/v1/{}/ingresses",
    "NetworkPolicy": "apis/networking.k8s.io/v1/{}/networkpolicies",
    "Route": "apis/route.openshift.io/v1/{}/routes",
    "Pod": "api/v1/{}/pods",
}
CLIENTS = "apis/oauth.openshift.io/v1/oauthclients"
#: The cluster makes them in every namespace, and for every account.
CLUSTERS_OWN = re.compile(r"ConfigMap/kube-root-ca\.crt|ServiceAccount/default|Secret/.*-token-\w{5}")
#: Keys of Secrets whose values are told
NO_SECRETS = ("username", "database", "litellm_database", "UI_USERNAME", "host", "port", "REDIS_HOST", "REDIS_PORT")
#: What servers write
WRITTEN = ("resourceVersion", "managedFields", "generation", "selfLink")
ROLLOUTS = ("deployment.kubernetes.io/revision",)


def get(client: Any, path: str) -> list[dict[str, Any]]:
    """The items of a list; none where there is no such kind."""
    request = client.param_serialize(
        "GET", f"/{path}", auth_settings=["BearerToken"], header_params={"Accept": "application/json"}
    )
    answer = client.call_api(*request)
    if answer.status == 404:
        return []
    text = answer.read()
    if answer.status != 200:
        raise SystemExit(f"GET {path}: {answer.status}: {text[:300]!r}")
    return list(json.loads(text)["items"])


def digest(kind: str, found: dict[str, Any]) -> str:
    """A hash of what is declared."""
    meta = {name: value for name, value in found["metadata"].items() if name not in WRITTEN}
    notes = {name: value for name, value in (meta.get("annotations") or {}).items() if name not in ROLLOUTS}
    rest = {name: value for name, value in found.items() if name not in ("metadata", "status")}
    if kind == "PersistentVolumeClaim":
        notes, meta = {}, {**meta, "finalizers": []}
        rest = {**rest, "spec": {**found["spec"], "volumeName": ""}}  # filled in by its provisioner
    if kind == "ServiceAccount":
        rest = {name: value for name, value in rest.items() if name not in ("secrets", "imagePullSecrets")}
    text = json.dumps([{**meta, "annotations": notes}, rest], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_ready(pod: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions") or ())


def look(namespace: str) -> dict[str, Any]:
    """Everything of a namespace, and the OAuthClients that lead to it."""
    client = kubernetes.config.new_client_from_config()
    there = {kind: get(client, path.format(f"namespaces/{namespace}")) for kind, path in LISTS.items()}
    for kind, items in there.items():
        there[kind] = [one for one in items if not CLUSTERS_OWN.fullmatch(f"{kind}/{one['metadata']['name']}")]
    pods = [one for one in there.pop("Pod") if one["status"].get("phase") not in ("Succeeded", "Failed")]
    there["OAuthClient"] = [one for one in get(client, CLIENTS) if one["metadata"]["name"] == namespace]
    values = {
        value
        for secret in there["Secret"]
        for name, encoded in (secret.get("data") or {}).items()
        if name not in NO_SECRETS and (value := base64.b64decode(encoded).decode("utf-8", "replace")) and len(value) > 7
    }
    objects = {
        f"{kind}/{one['metadata']['name']}": {"uid": one["metadata"]["uid"], "digest": digest(kind, one)}
        for kind, items in there.items()
        for one in items
    }
    # OpenShift wants an OAuthClient's secret in the object itself.
    shown = {kind: items for kind, items in there.items() if kind not in ("Secret", "OAuthClient")}
    leaks = sorted(
        f"{kind}/{one['metadata']['name']}"
        for kind, items in {**shown, "Pod": pods}.items()
        for one in items
        for text in [json.dumps(one, ensure_ascii=False)]
        if any(value in text or base64.b64encode(value.encode()).decode() in text for value in values)
    )
    apps: dict[str, dict[str, bool]] = {}
    for pod in pods:
        if not pod["metadata"].get("deletionTimestamp"):
            app = (pod["metadata"].get("labels") or {}).get("app", "")
            apps.setdefault(app, {})[pod["metadata"]["uid"]] = is_ready(pod)
    return {"objects": objects, "apps": apps, "leaks": leaks}


def since(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What became of a namespace between two looks."""
    old, new = before["objects"], now["objects"]
    both = sorted(set(old) & set(new))
    return {
        "names": sorted(new),
        "made": sorted(set(new) - set(old)),
        "gone": sorted(set(old) - set(new)),
        "replaced": [name for name in both if old[name]["uid"] != new[name]["uid"]],
        "changed": [name for name in both if old[name]["digest"] != new[name]["digest"]],
        "rolled_out": sorted(
            app for app, pods in now["apps"].items() if not set(pods) & set(before["apps"].get(app, {}))
        ),
        "pods": {app: len(pods) for app, pods in now["apps"].items()},
        "ready": {app: sum(pods.values()) for app, pods in now["apps"].items()},
        "leaks": now["leaks"],
    }


def main() -> None:
    namespace, file = sys.argv[1], Path(sys.argv[2])
    now = look(namespace)
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"objects": {}, "apps": {}}
    file.write_text(json.dumps(now), encoding="utf-8")
    print(json.dumps(since(before, now)))


if __name__ == "__main__":
    main()
