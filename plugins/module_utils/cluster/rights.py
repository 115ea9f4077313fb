# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an account may do in a cluster, asked before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Rest, if_allowed

REVIEWS = "/apis/authorization.k8s.io/v1"


@dataclass(frozen=True)
class Need:
    """A right: a verb on a resource of a group, in a namespace, or of the cluster where that is "".

    With a name it is the right to that object alone.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    @classmethod
    def of(cls, verb: str, path: str) -> Need:
        """The right to an object, by its path: ``/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME``."""
        _empty, api, *rest = path.split("/")
        group = rest.pop(0) if api == "apis" else ""
        if rest[1] == "namespaces":  # of the API server's, a namespace belongs to itself
            return cls(verb, group, rest[3] if len(rest) > 3 else "namespaces", rest[2])
        return cls(verb, group, rest[1])

    def sentence(self) -> str:
        """``create on deployments.apps in litemaas``, ``get on secrets litellm-secret in litemaas``."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        resource += f" {self.name}" if self.name else ""
        return f"{self.verb} on {resource} in {self.namespace or 'the cluster'}"


def covered(need: Need, rules: Iterable[Mapping[str, Any]]) -> bool:
    """Whether rules of a namespace give a right: to every object of that kind, or to the one that is named. Pure."""

    def has(values: Sequence[str], wanted: str) -> bool:
        return "*" in values or wanted in values

    return any(
        has(rule.get("verbs") or (), need.verb)
        and has(rule.get("apiGroups") or (), need.group)
        and has(rule.get("resources") or (), need.resource)
        and (not rule.get("resourceNames") or need.name in rule["resourceNames"])
        for rule in rules
    )


def missing(client: Rest, needs: Iterable[Need], namespace: str) -> list[Need]:
    """Those that the account lacks. Raises ClusterError.

    Args:
        namespace: where most of them are; its rules are asked for in one request.
    """
    wanted = list(dict.fromkeys(needs))
    if not wanted:
        return []
    body = {"apiVersion": "authorization.k8s.io/v1", "spec": {"namespace": namespace}}
    review = client.request("POST", f"{REVIEWS}/selfsubjectrulesreviews", {**body, "kind": "SelfSubjectRulesReview"})
    rules = (review.get("status") or {}).get("resourceRules") or []
    # The rules are those of one namespace, and another authorizer than RBAC may not tell its own.
    return [
        need
        for need in wanted
        if not (need.namespace == namespace and covered(need, rules)) and not _allowed(client, need)
    ]


def look(client: Rest, needs: Iterable[Need], namespace: str) -> dict[str, Any]:
    """Whether a namespace is there, and rights in it; a module's result, with ``failed``. Raises ClusterError."""
    found, refusal = if_allowed(lambda: client.find(f"/api/v1/namespaces/{quote(namespace, safe='')}"))
    lacking = [need.sentence() for need in missing(client, needs, namespace)]
    if found is None and not refusal:
        message = (
            f"There is no namespace {namespace}: check namespace, and which cluster K8S_AUTH_… or the kubeconfig means"
        )
    elif lacking:
        unseen = f". Nor may it see whether there is a namespace {namespace}: check that name too" if refusal else ""
        message = f"The account lacks rights: {', '.join(lacking)}{unseen}"
    else:
        return {"failed": False, "msg": f"No right lacks in {namespace}", "missing_rights": []}
    return {"failed": True, "msg": message, "missing_rights": lacking}


def _allowed(client: Rest, need: Need) -> bool:
    resource, _slash, part = need.resource.partition("/")
    attributes = {"verb": need.verb, "group": need.group, "resource": resource, "namespace": need.namespace}
    attributes |= {"name": need.name} if need.name else {}
    answer = client.request(
        "POST",
        f"{REVIEWS}/selfsubjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes | ({"subresource": part} if part else {})},
        },
    )
    return bool((answer.get("status") or {}).get("allowed"))
