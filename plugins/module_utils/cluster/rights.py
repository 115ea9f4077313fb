# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an account may do in a cluster, asked before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Rest

REVIEWS = "/apis/authorization.k8s.io/v1"


@dataclass(frozen=True)
class Need:
    """A right: a verb on a resource of a group, in a namespace, or of the cluster where that is ""."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    @classmethod
    def of(cls, verb: str, path: str) -> Need:
        """The right to an object, by its path: ``/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME``."""
        _empty, api, *rest = path.split("/")
        group = rest.pop(0) if api == "apis" else ""
        if rest[1] == "namespaces":  # of the API server's, a namespace belongs to itself
            return cls(verb, group, rest[3] if len(rest) > 3 else "namespaces", rest[2])
        return cls(verb, group, rest[1])

    def sentence(self) -> str:
        """``create on deployments.apps in litemaas``."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} on {resource} in {self.namespace or 'the cluster'}"


def covered(need: Need, rules: Iterable[Mapping[str, Any]]) -> bool:
    """Whether rules of a namespace give a right, to every object of that kind. Pure."""

    def has(values: Sequence[str], wanted: str) -> bool:
        return "*" in values or wanted in values

    return any(
        has(rule.get("verbs") or (), need.verb)
        and has(rule.get("apiGroups") or (), need.group)
        and has(rule.get("resources") or (), need.resource)
        and not rule.get("resourceNames")
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


def _allowed(client: Rest, need: Need) -> bool:
    resource, _slash, part = need.resource.partition("/")
    attributes = {"verb": need.verb, "group": need.group, "resource": resource, "namespace": need.namespace}
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
