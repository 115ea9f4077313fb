# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litemaas_adopt on a real API server: what the next apply takes away, and what it leaves."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.kube import Namespace, workload

MODULE = "litemaas_adopt"
MAKER = "OpenAPI-Generator"


class Runs:
    def __init__(self, runner: harness.Runner, place: Namespace) -> None:
        self.runner, self.place = runner, place

    def __call__(self, check: bool = False, **options: Any) -> harness.ModuleResult:
        args = {"kubeconfig": self.place.kube.kubeconfig, "namespace": self.place.name, **options}
        return self.runner.module(MODULE, args, check=check, diff=True)

    def actions(self, result: harness.ModuleResult) -> dict[str, str]:
        assert not result.failed, result["msg"]
        return {one["name"]: one["action"] for one in result["results"] if one["exists"]}


@pytest.fixture
def run(runner: harness.Runner, place: Namespace) -> Runs:
    return Runs(runner, place)


def old_litellm(place: Namespace) -> None:
    """As an older collection makes it, and as people change it afterwards."""
    env = [{"name": "LITELLM_MASTER_KEY", "value": "sk-literal"}, {"name": "LITELLM_LICENSE_KEY", "value": "wrong"}]
    body = workload("litellm", replicas=2, env=env)
    pod = body["spec"]["template"]["spec"]
    pod["containers"][0] |= {
        "command": ["old-entrypoint"],
        "volumeMounts": [
            {"name": "vertex-sa-key", "mountPath": "/etc/vertex-credentials"},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
    }
    secret = {"secretName": "vertex-ai-sa-key"}
    pod["volumes"] = [{"name": "vertex-sa-key", "secret": secret}, {"name": "scratch", "emptyDir": {}}]
    place.create("Deployment", "litellm", MAKER, **body)
    # oc set env
    switch = {"containers": [{"name": "litellm", "env": [{"name": "SWITCH", "value": "on"}]}]}
    merge = {"spec": {"template": {"spec": switch}}}
    place.patch("Deployment", "litellm", merge, "oc", "application/strategic-merge-patch+json")


def new_litellm(place: Namespace) -> dict[str, Any]:
    env = [
        {
            "name": "LITELLM_MASTER_KEY",
            "valueFrom": {"secretKeyRef": {"name": "litellm-secret", "key": "LITELLM_MASTER_KEY"}},
        }
    ]
    whole = {"apiVersion": "apps/v1", "kind": "Deployment"} | workload("litellm", env=env)
    whole["metadata"]["name"] = "litellm"
    del whole["spec"]["replicas"]
    return dict(place.apply("Deployment", "litellm", whole))


def managers(place: Namespace, kind: str, name: str) -> set[tuple[str, str]]:
    return {(one["manager"], one["operation"]) for one in place.get(kind, name)["metadata"]["managedFields"]}


def test_what_the_maker_set_goes_with_the_next_apply_and_what_others_set_stays(run: Runs, place: Namespace) -> None:
    old_litellm(place)
    before = place.get("Deployment", "litellm")
    planned = run(check=True)
    assert planned.changed and ("rhpds.litemaas", "Apply") not in managers(place, "Deployment", "litellm")
    done = run()
    assert run.actions(done) == {"Deployment/litellm": "adopt"} and done["results"][0]["others"] == ["oc"]
    after = place.get("Deployment", "litellm")
    assert after["spec"] == before["spec"] and after["metadata"]["generation"] == before["metadata"]["generation"]
    assert ("rhpds.litemaas", "Apply") in managers(place, "Deployment", "litellm")

    found = new_litellm(place)
    spec = found["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert "command" not in container
    assert {one["name"]: one.get("value", "secret") for one in container["env"]} == {
        "LITELLM_MASTER_KEY": "secret",
        "SWITCH": "on",
    }
    assert [one["mountPath"] for one in container["volumeMounts"]] == ["/etc/vertex-credentials"]
    assert [one["name"] for one in spec["volumes"]] == ["vertex-sa-key"]
    assert found["spec"]["replicas"] == 2

    again = run()
    assert not again.changed and run.actions(again) == {"Deployment/litellm": "none"}


def test_without_it_the_apply_is_refused_or_leaves_what_is_not_wanted(place: Namespace) -> None:
    """What the module is for: not a fault of the test server."""
    old_litellm(place)
    with pytest.raises(AssertionError, match="may not be specified when `value` is not empty"):
        new_litellm(place)


def test_objects_of_other_names_and_makers_are_left_alone(run: Runs, place: Namespace) -> None:
    place.deployment("litellm", "somebody")
    place.deployment("other", MAKER)
    place.create("StatefulSet", "litellm-postgres", "kubectl-create", **workload("litellm-postgres", serviceName="x"))
    ports = [{"port": 5432, "protocol": "TCP"}]
    place.create("Service", "litellm-postgres", "kubectl-client-side-apply", spec={"ports": ports})
    done = run()
    assert run.actions(done) == {
        "Deployment/litellm": "none",
        "StatefulSet/litellm-postgres": "adopt",
        "Service/litellm-postgres": "adopt",
    }
    assert (MAKER, "Update") in managers(place, "Deployment", "other")
    named = run(objects=["Deployment/litellm", "Deployment/nothing"], managers=["somebody"])
    assert run.actions(named) == {"Deployment/litellm": "adopt"}


def test_a_misspelt_object_and_a_missing_right_are_named(run: Runs, place: Namespace) -> None:
    wrong = run(objects=["Pod/x"])
    assert wrong.failed and "'Pod/x' is no Kind/name" in wrong["msg"]
    place.deployment("litellm", MAKER)
    token = place.account({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]})
    account = {"kubeconfig": None, "host": place.kube.server, "api_key": token, "validate_certs": False}
    refused = run(objects=["Deployment/litellm"], **account)
    assert refused.failed and "Adopt Deployment/litellm: HTTP 403" in refused["msg"]
    assert "get and patch on deployments" in refused["msg"]
