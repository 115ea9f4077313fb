# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ocp4_workload_litemaas on a real API server: deploy, deploy again, change, refuse, adopt, remove.

The fake node runs no container: what is shown is objects and rollouts, not what the images do.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import facts
from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness
from ansible_collections.rhpds.litemaas.tests.integration.kube import Kube, Namespace

# The stack's programs import each other by their bare names.
sys.path.insert(0, str(harness.CHECKOUT / "tests" / "stack"))

import cluster as stack_cluster

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
        self.variables: dict[str, str] = {}

    def deploy(self, *, check: bool = False, **settings: Any) -> harness.PlaybookResult:
        return self._run("deploy_litemaas_ha", check, {"ha_postgres_password": self.password, **settings})

    def _run(self, playbook: str, check: bool, settings: dict[str, Any]) -> harness.PlaybookResult:
        # Two namespaces of a cluster can't have Routes of one name.
        given = {"namespace": self.place.name, "api_route_prefix": self.place.name, **settings}
        variables = {**self.variables, **{PREFIX + name: value for name, value in given.items()}}
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

    lab.moved()
    for check in (True, False):
        unwritable = lab.deploy(check=check, litellm_tag="main-v1.85.0-stable", backup_dir="/nowhere/at/all")
        assert unwritable.rc and "Write to /nowhere/at/all: there is no /nowhere/at" in unwritable.output
    assert not lab.moved()

    ok(lab.deploy(version="0.5.0"))
    assert lab.moved() == {"Deployment/litellm-backend", "Deployment/litellm-frontend"}
    lab.place.patch("Deployment", "litellm", {"spec": {"replicas": 4}}, manager="kubectl")
    lab.moved()
    others = {"ha_postgres_db": "another_db", "ha_postgres_user": "another", "ha_postgres_password": "pw-of-another"}
    kept = ok(lab.deploy(version="0.5.0", litellm_num_retries=3, **others))
    assert lab.moved() == {"Deployment/litellm", "ConfigMap/litellm-config"}
    assert "litellm: 4 replicas, set by somebody else (wanted 3)" in kept.stdout
    said = kept.stdout
    assert f"database litemaas_db ({PREFIX}ha_postgres_db is another_db); username of Secret litemaas-db, not" in said
    assert f"changes, not {PREFIX}ha_postgres_password" in said and "pw-of-another" not in kept.output
    other = f"{lab.place.name}-o"
    back = ok(lab.deploy(version="0.5.0", litellm_num_retries=3, keep_changes=False, api_route_prefix=other))
    assert lab.place.get("Deployment", "litellm")["spec"]["replicas"] == 3, back.stdout
    assert lab.place.get("Route", lab.place.name) is None and lab.place.get("Route", other)


def test_a_cluster_without_routes_gets_ingresses(lab: Deployment, tmp_path: Path) -> None:
    """Nobody says that it is plain Kubernetes."""
    with stack_cluster.bare(tmp_path) as kubeconfig:
        lab.environment = {"KUBECONFIG": str(kubeconfig), "K8S_AUTH_KUBECONFIG": str(kubeconfig)}
        dry = ok(lab.deploy(check=True, cluster_domain="example.com"))
    name = lab.place.name
    assert "would deploy" in dry.stdout and f"https://{name}.example.com" in dry.stdout
    assert f"Ingress/{name}-frontend" in dry.stdout and "Route/" not in dry.stdout, dry.stdout


def test_what_cannot_work_is_refused_before_anything_is_applied(lab: Deployment) -> None:
    for settings, words in (
        ({"ha_litellm_replicas": 20}, "LiteLLM (20 + 1 while it is rolled out) x 1 workers x 10 connections = 210"),
        ({"postgres_storage_class": "no-such-class"}, "no-such-class"),
        ({"ha_enable_postgres": False}, "postgres_host"),
        ({"oauth_enabled": True, "oauth_provider": "oidc"}, "oauth_issuer"),
        ({"namespace": "kube-system"}, "kube-system"),
        ({"frontend_route_prefix": lab.place.name, "redis_port": 0}, "redis_port is 0: it has to be from 1 to 65535; "),
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


#: What is somebody else's: nothing of a deploy may go there, or be asked there.
ELSEWHERE = {
    "litellm_url": "http://127.0.0.1:9",
    "litellm_master_key": "sk-of-another-deployment",
    "litemaas_dsn": "postgresql://nobody:nothing@127.0.0.1:9/nowhere",
    "litellm_dsn": "postgresql://nobody:nothing@127.0.0.1:9/nowhere",
    "litellm_key_secret": "of-another-deployment-" + 22 * "x",
}


@pytest.fixture
def brand(stack: harness.Stack) -> Iterator[Any]:
    """The branding in the database that holds both stores; it is put back in the end."""
    connection = harness.connect(stack.litellm_dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:

        def read() -> tuple[Any, ...]:
            cursor.execute("SELECT login_title, login_title_enabled FROM branding_settings WHERE id = 1")
            return tuple(cursor.fetchone())

        before = read()
        yield read
        cursor.execute("UPDATE branding_settings SET login_title = %s, login_title_enabled = %s WHERE id = 1", before)
    connection.close()


def rows(dsn: str, prefix: str) -> set[str]:
    """Names in LiteMaaS's catalogue."""
    connection = harness.connect(dsn)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM models WHERE starts_with(id, %s)", [prefix])
        found = {row[0] for row in cursor.fetchall()}
    connection.close()
    return found


def test_plain_kubernetes_with_all_that_is_optional(
    lab: Deployment, litellm: harness.LiteLLM, prefix: str, brand: Any, namespace: cluster.Namespace
) -> None:
    """And with another deployment's addresses in variables and in the environment, which win nowhere."""
    stack, model = lab.runner.stack, f"{prefix}chat"
    place = Namespace(lab.kube, namespace.name)
    # As an Ingress' host resolves nowhere, one that the stack's proxy is behind.
    namespace.ingress("beside", stack.url)
    database, redis = urlsplit(stack.litellm_dsn), urlsplit(stack.variables["REDIS_URL"])
    favicon = lab.runner.folder / "favicon.ico"
    favicon.write_bytes(b"\0\0\1\0 an icon")
    wanted = {"model_name": model, "litellm_model": "openai/demo-chat", "api_base": f"{stack.upstream_url}/v1"}
    settings = {
        "namespace": namespace.name,
        "platform": "kubernetes",
        "cluster_domain": "example.com",
        "database_layout": "shared",
        "ha_enable_postgres": False,
        "postgres_host": database.hostname,
        "postgres_port": database.port,
        "postgres_sslmode": "disable",
        "ha_postgres_user": database.username,
        "ha_postgres_db": database.path.strip("/"),
        "ha_enable_redis": False,
        "redis_host": redis.hostname,
        "redis_port": redis.port,
        "redis_password": redis.password,
        "litellm_master_key": stack.master_key,
        "oauth_enabled": True,
        "oauth_provider": "oidc",
        "oauth_issuer": "https://login.example.com/realms/lab",
        "oauth_client_secret": "client-secret-of-the-test",
        **{f"ha_{part}_replicas": 1 for part in ("litellm", "backend", "frontend")},
        "key_cleanup_enabled": True,
        "key_cleanup_image": "quay.io/example/litemaas-ee:1",
        "deploy_mcp": True,
        "mcp_image": "quay.io/example/litemaas-mcp:1",
        "branding_enabled": True,
        "branding_title": f"Models of {prefix}",
        "branding_page_title": "Models of a lab",
        "branding_favicon_path": str(favicon),
        "litellm_models": [{**wanted, "api_key": "none", "display_name": "Chat"}],
        # Other tests make models meanwhile.
        "models_sync_from_litellm": False,
        # Those of the role for models, too.
        **{f"models_{name}": value for name, value in ELSEWHERE.items() if name != "litellm_key_secret"},
        "models_namespace": "somewhere-else",
    }
    lab.environment = {name.upper(): value for name, value in ELSEWHERE.items()}
    lab.variables = dict(ELSEWHERE)
    first = ok(lab.deploy(**settings))
    assert {found["model_name"] for found in litellm.models(prefix)} == {model}, first.stdout
    assert rows(stack.litellm_dsn, prefix) == {model}
    assert not rows(stack.litemaas_dsn, prefix)
    assert brand() == (f"Models of {prefix}", True)
    values = place.values("litemaas-db") or {}
    assert f"{database.hostname}:{database.port}{database.path}" in values["DATABASE_URL"]
    assert values["DATABASE_URL"].partition("?")[0] == values["LITELLM_DATABASE_URL"].partition("?")[0]
    assert (place.values("litellm-redis") or {})["password"] == redis.password
    config = yaml.safe_load(place.get("ConfigMap", "litellm-config")["data"]["config.yaml"])
    assert (config["router_settings"]["redis_host"], config["router_settings"]["redis_port"]) == (
        redis.hostname,
        redis.port,
    )
    made = {one["metadata"]["name"] for one in lab.kube.call("GET", place.path("Deployment"))["items"]}
    assert made == {"litellm", "litellm-backend", "litellm-frontend", "litemaas-mcp"}
    assert not lab.kube.call("GET", place.path("StatefulSet"))["items"]
    assert not lab.kube.call("GET", place.path("Route"))["items"]
    ingresses = lab.kube.call("GET", f"apis/networking.k8s.io/v1/namespaces/{place.name}/ingresses")["items"]
    hosts = {one["metadata"]["name"]: one["spec"]["rules"][0]["host"] for one in ingresses if "rules" in one["spec"]}
    name = lab.place.name
    assert hosts == {part: f"{part}.example.com" for part in (name, f"{name}-admin", f"{name}-frontend")}
    portal = place.get("Deployment", "litellm-frontend")["spec"]["template"]["spec"]
    assert [one["image"] for one in portal["initContainers"]] == [portal["containers"][0]["image"]]
    pages = place.get("ConfigMap", "litemaas-branding")
    assert base64.b64decode(pages["binaryData"]["favicon"]) == favicon.read_bytes()
    assert "Models of a lab" in pages["data"]["texts.sed"]

    jobs = f"apis/batch/v1/namespaces/{place.name}/cronjobs"
    nightly = [one["spec"]["jobTemplate"]["spec"]["template"] for one in lab.kube.call("GET", jobs)["items"]]
    assert [one["spec"]["containers"][0]["image"] for one in nightly] == ["quay.io/example/litemaas-ee:1"]

    again = ok(lab.deploy(**settings))
    assert again.changed == 0, again.stdout
    assert len(lab.kube.call("GET", jobs)["items"]) == 1
