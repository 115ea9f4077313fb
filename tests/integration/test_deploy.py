# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ocp4_workload_litemaas on a real API server: deploy, deploy again, change, refuse, adopt, remove.

The fake node runs no container: what is shown is objects and rollouts, not what the images do.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import facts
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.kube import Kube, Namespace

PREFIX = "ocp4_workload_litemaas_"
#: Tasks of a fresh deploy, waits included.
MOST_TASKS = 20


class Deployment:
    """A namespace's deployment, as its operator handles it."""

    def __init__(self, runner: harness.Runner, name: str) -> None:
        self.runner, self.kube = runner, Kube(runner.stack)
        self.place = Namespace(self.kube, name)
        # The node's PostgreSQL is the stack's, and its password is compared with the Secret's.
        self.password = urlsplit(runner.stack.litellm_dsn).password or ""
        self.before: dict[str, str] = {}
        self.environment: dict[str, str] = {}

    def deploy(self, *, check: bool = False, **settings: Any) -> harness.PlaybookResult:
        return self._run("deploy_litemaas_ha", check, {"ha_postgres_password": self.password, **settings})

    def _run(self, playbook: str, check: bool, settings: dict[str, Any]) -> harness.PlaybookResult:
        # Two namespaces of a cluster can't have Routes of one name.
        given = {"namespace": self.place.name, "api_route_prefix": self.place.name, **settings}
        variables = {PREFIX + name: value for name, value in given.items()}
        variables["output_dir"] = str(self.runner.folder)
        result = self.runner.playbook(f"rhpds.litemaas.{playbook}", variables, check=check, env=self.environment)
        assert self.password not in result.output
        return result

    def moved(self) -> set[str]:
        """Objects whose declared part is another one than when this was last asked."""
        now = {}
        for kind in ("Deployment", "StatefulSet", "Job", "Service", "ConfigMap", "Secret", "Route"):
            for item in (self.kube.call("GET", self.place.path(kind)) or {"items": []})["items"]:
                meta = item["metadata"]
                declared = [item.get(part) for part in ("spec", "data")] + [meta.get("labels")]
                now[f"{kind}/{meta['name']}"] = json.dumps([meta["uid"], declared], sort_keys=True)
        before, self.before = self.before, now
        return {name for name in now.keys() | before.keys() if now.get(name) != before.get(name)}

    def container(self, kind: str, name: str) -> dict[str, Any]:
        return dict(self.place.get(kind, name)["spec"]["template"]["spec"]["containers"][0])


@pytest.fixture
def lab(runner: harness.Runner) -> Iterator[Deployment]:
    found = Deployment(runner, f"t{secrets.token_hex(4)}")
    yield found
    found.kube.call("DELETE", f"api/v1/namespaces/{found.place.name}")


def ok(result: harness.PlaybookResult) -> harness.PlaybookResult:
    assert result.rc == 0, result.output[-4000:]
    return result


def test_a_deployment_and_what_moves_in_it(lab: Deployment) -> None:
    """What molecule's scenario of the role leaves out, which has removal, upgrade and others' changes."""
    dry = ok(lab.deploy(check=True))
    assert "would deploy" in dry.stdout and not lab.moved()

    first = ok(lab.deploy())
    assert "made Namespace" in first.stdout and lab.moved()
    assert first.stats["localhost"]["ok"] <= MOST_TASKS
    values = lab.place.values("litellm-secret") or {}
    assert {"LITELLM_MASTER_KEY", "LITELLM_SALT_KEY"} <= set(values)
    assert not [value for name, value in values.items() if name != "UI_USERNAME" and value in first.output]
    data = (lab.runner.folder / "provision-user-data.yaml").read_text()
    assert values["LITELLM_MASTER_KEY"] in data and "litellm_api_endpoint" in data

    ok(lab.deploy(version="0.5.0"))
    assert lab.moved() == {"Deployment/litellm-backend", "Deployment/litellm-frontend"}
    lab.place.patch("Deployment", "litellm", {"spec": {"replicas": 4}}, manager="kubectl")
    lab.moved()
    kept = ok(lab.deploy(version="0.5.0", litellm_num_retries=3))
    assert lab.moved() == {"Deployment/litellm", "ConfigMap/litellm-config"}
    assert "litellm: 4 replicas, set by somebody else (wanted 3)" in kept.stdout
    other = f"{lab.place.name}-o"
    back = ok(lab.deploy(version="0.5.0", litellm_num_retries=3, keep_changes=False, api_route_prefix=other))
    assert lab.place.get("Deployment", "litellm")["spec"]["replicas"] == 3, back.stdout
    assert lab.place.get("Route", lab.place.name) is None and lab.place.get("Route", other)


def test_what_cannot_work_is_refused_before_anything_is_applied(lab: Deployment) -> None:
    for settings, words in (
        ({"ha_litellm_replicas": 20}, "LiteLLM (20 + 1 while it is rolled out) x 1 workers x 10 connections = 210"),
        ({"postgres_storage_class": "no-such-class"}, "no-such-class"),
        ({"ha_enable_postgres": False}, "postgres_host"),
        ({"oauth_enabled": True, "oauth_provider": "oidc"}, "oauth_issuer"),
        ({"namespace": "kube-system"}, "kube-system"),
    ):
        result = lab.deploy(**settings)
        assert result.rc and words in result.output, (settings, result.output[-2000:])
        assert lab.kube.call("GET", f"api/v1/namespaces/{lab.place.name}") is None


def test_an_account_with_exactly_the_rights_that_are_asked_for(lab: Deployment, tmp_path: Path) -> None:
    name = lab.place.name
    lab.kube.call("POST", "api/v1/namespaces", {"metadata": {"name": name}})
    needs = facts.needs_of_a_deploy(name, "openshift", namespace_exists=True)
    rules = [{"apiGroups": [one.group], "resources": [one.resource], "verbs": [one.verb]} for one in needs]
    config = yaml.safe_load(Path(lab.kube.kubeconfig).read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": lab.place.account(*rules)}
    path = tmp_path / "account.kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    # What belongs to the cluster is given, as the account may not read it.
    lab.environment = {"KUBECONFIG": str(path), "K8S_AUTH_KUBECONFIG": str(path)}
    settings = {"postgres_storage_class": "standard", "cluster_domain": "apps.example.com"}
    ok(lab.deploy(**settings))
    assert ok(lab.deploy(**settings)).changed == 0
