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

OLDER = Path(__file__).parent / "fixtures" / "litemaas-0.3.2.yaml.j2"
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

    def remove(self, *, check: bool = False, **settings: Any) -> harness.PlaybookResult:
        return self._run("remove_litemaas", check, settings)

    def _run(self, playbook: str, check: bool, settings: dict[str, Any]) -> harness.PlaybookResult:
        variables = {PREFIX + name: value for name, value in {"namespace": self.place.name, **settings}.items()}
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


def test_the_life_of_a_deployment(lab: Deployment) -> None:
    # Before anything exists
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

    again = ok(lab.deploy())
    assert again.changed == 0, again.stdout[-3000:]
    assert not lab.moved()

    # A variable changes its object alone, and others' changes stay.
    ok(lab.deploy(ha_frontend_replicas=2))
    assert lab.moved() == {"Deployment/litellm-frontend"}
    ok(lab.deploy(ha_frontend_replicas=2, ha_redis_memory_limit="640Mi"))
    assert lab.moved() == {"Deployment/litellm-redis"}
    lab.place.patch("Deployment", "litellm", {"spec": {"replicas": 4}}, manager="kubectl")
    lab.moved()
    kept = ok(lab.deploy(ha_frontend_replicas=2, ha_redis_memory_limit="640Mi"))
    assert "litellm: 4 replicas, set by somebody else (wanted 3)" in kept.stdout and not lab.moved()
    ok(lab.deploy(ha_frontend_replicas=2, ha_redis_memory_limit="640Mi", version="0.5.0"))
    assert lab.moved() == {"Deployment/litellm-backend", "Deployment/litellm-frontend"}
    ok(lab.deploy(ha_frontend_replicas=2, ha_redis_memory_limit="640Mi", version="0.5.0", litellm_num_retries=3))
    assert lab.moved() == {"Deployment/litellm", "ConfigMap/litellm-config"}
    back = ok(lab.deploy(keep_changes=False))
    assert lab.place.get("Deployment", "litellm")["spec"]["replicas"] == 3, back.stdout

    # Login on, another name, and off again.
    lab.moved()
    ok(lab.deploy(oauth_enabled=True, api_route_prefix="other"))
    client = lab.kube.call("GET", f"apis/oauth.openshift.io/v1/oauthclients/{lab.place.name}")
    assert client["secret"] == (lab.place.values("backend-secret") or {})["OAUTH_CLIENT_SECRET"]
    assert len(client["redirectURIs"]) == 3 and "https://other." in client["redirectURIs"][0]
    assert lab.place.get("Route", "litellm") is None and lab.place.get("Route", "other")
    same = ok(lab.deploy(oauth_enabled=True, api_route_prefix="other"))
    assert same.changed == 0, same.stdout[-3000:]

    # Removal: refused without a backup, with the volume kept, taken up again, then everything.
    refused = lab.remove()
    assert refused.rc and "there is no backup" in refused.output
    lab.moved()
    ok(lab.remove(keep_volume=True, check=True))
    assert not lab.moved()
    ok(lab.remove(keep_volume=True))
    assert lab.place.get("Deployment", "litellm") is None
    assert lab.kube.call("GET", f"apis/oauth.openshift.io/v1/oauthclients/{lab.place.name}") is None
    assert lab.place.get("PersistentVolumeClaim", "postgres-storage-litellm-postgres-0")
    assert ok(lab.remove(keep_volume=True)).changed == 0
    ok(lab.deploy())
    assert lab.place.values("litellm-secret") == values
    ok(lab.remove(remove_force=True))
    assert lab.kube.call("GET", f"api/v1/namespaces/{lab.place.name}") is None
    assert ok(lab.remove(remove_force=True)).changed == 0


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


def test_an_image_that_cannot_be_pulled_is_told(lab: Deployment) -> None:
    result = lab.deploy(frontend_image="quay.io/example/does-not-exist", pull_failure_after=2, wait_timeout=60)
    assert result.rc, result.stdout[-500:]
    assert "litellm-frontend" in result.output and "does-not-exist" in result.output
    # The way on
    ok(lab.deploy())


def test_a_deployment_of_the_older_collection_is_taken_over(lab: Deployment) -> None:
    name = lab.place.name
    older = f"""
- hosts: localhost
  gather_facts: false
  tasks:
    - kubernetes.core.k8s: {{name: {name}, api_version: v1, kind: Namespace}}
    - kubernetes.core.k8s: {{namespace: {name}, template: {OLDER}, apply: true}}
"""
    ok(lab.runner.playbook(older, {"password": lab.password, "database": "litellm_db"}))
    lab.moved()
    claim = lab.place.get("PersistentVolumeClaim", "postgres-data-litellm-postgres-0")
    result = ok(lab.deploy())
    values = lab.place.values("litellm-secret") or {}
    assert values["LITELLM_SALT_KEY"] == values["LITELLM_MASTER_KEY"] == "sk-of-the-older-release"
    urls = lab.place.values("litemaas-db") or {}
    assert urls["DATABASE_URL"] == urls["LITELLM_DATABASE_URL"], "one database, as it was"

    postgres = lab.place.get("StatefulSet", "litellm-postgres")["spec"]
    container = postgres["template"]["spec"]["containers"][0]
    assert "command" not in container and container["args"] == ["-c", "max_connections=200"]
    assert {"name": "PGDATA", "value": "/var/lib/postgresql/data/older"} in container["env"]
    assert lab.password not in json.dumps(postgres)
    assert postgres["podManagementPolicy"] == "Parallel"
    after = lab.place.get("PersistentVolumeClaim", "postgres-data-litellm-postgres-0")
    assert after["metadata"]["uid"] == claim["metadata"]["uid"]

    litellm = lab.place.get("Deployment", "litellm")["spec"]
    assert litellm["replicas"] == 5 and "5 replicas, set by somebody else" in result.stdout
    pod = litellm["template"]["spec"]
    assert "/etc/vertex-credentials" in [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    assert not pod.get("initContainers")
    assert lab.password not in json.dumps(litellm)
    policies = f"apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies/allow-intra-namespace"
    assert lab.kube.call("GET", policies) is None
    again = ok(lab.deploy())
    assert again.changed == 0, again.stdout[-3000:]
    assert "stays, as it was not made by this collection" in ok(lab.remove(remove_force=True)).stdout
