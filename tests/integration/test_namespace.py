# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a namespace is enough for: proxy, keys and databases that are found in the cluster."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.cluster import POSTGRES, READ, Namespace

#: Nothing but the cluster says where anything is.
UNSET = dict.fromkeys(("LITELLM_URL", "LITELLM_MASTER_KEY", "LITELLM_KEY_SECRET", "LITEMAAS_DSN", "LITELLM_DSN"), "")
MODELS = "ocp4_workload_litemaas_models_"
KEYS = "ocp4_workload_litellm_virtual_keys_"


def secrets_of(stack: harness.Stack) -> set[str]:
    passwords = {urllib.parse.urlsplit(dsn).password or "" for dsn in (stack.litemaas_dsn, stack.litellm_dsn)}
    return {stack.master_key, stack.key_secret, *passwords, *map(urllib.parse.unquote, passwords)}


def rows(dsn: str, prefix: str) -> list[tuple[str, str]]:
    connection = harness.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, name FROM models WHERE starts_with(id, %s) ORDER BY id", (prefix,))
            return list(cursor.fetchall())
    finally:
        connection.close()


@pytest.fixture
def inside(runner: harness.Runner, namespace: Namespace) -> Callable[..., harness.ModuleResult]:
    """Runs a module that is told the namespace, and nothing else."""

    def run(module: str, /, env: dict[str, str] | None = None, check: bool = False, **options: Any) -> Any:
        given = {"namespace": namespace.name, "retry_count": 0, **options}
        return runner.module(module, given, check=check, env={**UNSET, **(env or {})})

    return run


# ---- whole commands ----


@pytest.mark.parametrize("shared", [False, True], ids=["split", "shared"])
def test_a_namespace_and_a_list_are_the_whole_command(
    runner: harness.Runner,
    litellm: harness.LiteLLM,
    stack: harness.Stack,
    namespace: Namespace,
    prefix: str,
    shared: bool,
) -> None:
    """With an account that may do no more than that."""
    namespace.litemaas(shared=shared)
    item = {"model_name": f"{prefix}chat", "litellm_model": "openai/mini", "api_base": f"{stack.upstream_url}/v1"}
    variables = {
        "namespace": namespace.name,
        f"{MODELS}list": [{**item, "api_key": "sk-upstream-9f2b7c61d0aa", "display_name": "Chat"}],
        f"{MODELS}sync_from_litellm": False,
    }
    env = {**UNSET, "KUBECONFIG": namespace.account(runner.folder)}

    def run(**options: Any) -> harness.PlaybookResult:
        done = runner.playbook("rhpds.litemaas.manage_models", variables, env=env, **options)
        assert done.rc == 0, done.output
        return done

    dsn = stack.litellm_dsn if shared else stack.litemaas_dsn
    assert run(check=True).changed == 2 and not litellm.models(prefix)
    done = run(verbosity=3, diff=True)
    assert done.changed == 2 and [one["model_name"] for one in litellm.models(prefix)] == [f"{prefix}chat"]
    assert rows(dsn, prefix) == [(f"{prefix}chat", "Chat")]
    assert not [one for one in secrets_of(stack) if one in done.output]
    assert run().changed == 0
    # The same models, however the stores are found.
    variables |= {"litellm_url": stack.url, "litellm_master_key": stack.master_key, "litemaas_dsn": dsn}
    elsewhere = {name: value for name, value in variables.items() if name != "namespace"}
    again = runner.playbook("rhpds.litemaas.manage_models", elsewhere, env={**UNSET, "KUBECONFIG": "/nowhere"})
    assert (again.rc, again.changed) == (0, 0), again.output
    assert litellm.models(prefix)[0]["model_info"]["scope"] == "litemaas"
    variables["ACTION"] = "destroy"
    assert run().changed == 2 and not litellm.models(prefix)


def test_keys_are_derived_from_the_secret_of_the_namespace(
    runner: harness.Runner, stack: harness.Stack, namespace: Namespace, lab: Any
) -> None:
    namespace.litemaas()
    variables = {
        "namespace": namespace.name,
        "guid": lab.guid,
        "num_users": 2,
        "output_dir": str(runner.folder),
        f"{KEYS}models": lab.models,
        "handout": str(runner.folder / "keys.json"),
    }

    def run(name: str, **more: Any) -> harness.PlaybookResult:
        done = runner.playbook(f"rhpds.litemaas.{name}", {**variables, **more}, env=UNSET)
        assert done.rc == 0, done.output
        return done

    made = run("provision_key")
    handout = json.loads((runner.folder / "keys.json").read_text(encoding="utf-8"))
    assert {one["api_base_url"] for one in handout} == {f"{stack.url}/v1"}
    assert "random" not in made.output and not any(one["key"] in made.output for one in handout)
    given = {"keys": [{"key_alias": one["key_alias"]} for one in handout], "guid": lab.guid}
    again = runner.module("litellm_virtual_key", {**given, "state": "existing", "key_secret": stack.key_secret})
    assert [one["key"] for one in again["results"]] == [one["key"] for one in handout]
    assert (
        f"{lab.guid}-user2" in run("manage_virtual_keys", virtual_key_action="list", virtual_key_guid=lab.guid).output
    )
    assert "2 ok" in run("check_workshop").output
    run("extend_key")
    assert run("destroy_key").changed and not lab.litellm.keys(f"virtkey-{lab.guid}")


def test_a_sync_finds_both_databases(
    runner: harness.Runner, stack: harness.Stack, namespace: Namespace, prefix: str
) -> None:
    namespace.litemaas()
    variables = {"namespace": namespace.name, "sync_repair": "orphaned_models"}
    done = runner.playbook("rhpds.litemaas.sync_databases", variables, check=True, verbosity=1, env=UNSET)
    assert done.rc == 0, done.output
    pod = f"Secret {namespace.name}/litemaas-db, through pod {namespace.name}/{POSTGRES}-0"
    for option in ("litemaas_dsn", "litellm_dsn"):
        assert f'"{option}": "{pod}"' in done.output, done.output


def test_without_a_namespace_it_is_said_what_there_is_to_give(runner: harness.Runner, prefix: str) -> None:
    for module, options, option in (
        ("litellm_model_info", {}, "litellm_url"),
        ("litellm_model_info", {"litellm_url": "http://127.0.0.1:1"}, "litellm_master_key"),
        ("litemaas_db_sync", {"litellm_url": "http://127.0.0.1:1", "litellm_master_key": "sk-1"}, "litemaas_dsn"),
        ("litellm_key_check", {"litellm_url": "http://127.0.0.1:1", "guid": "x"}, "litellm_master_key"),
    ):
        result = runner.module(module, options, env=UNSET)
        assert result["msg"] == f"{option} is not set. Give it, or namespace to have it found in the cluster"
    for name, variables in (
        ("provision_key", {"guid": prefix}),
        ("sync_databases", {}),
        ("check_workshop", {"guid": "x"}),
        ("manage_models", {}),
    ):
        done = runner.playbook(f"rhpds.litemaas.{name}", variables, env=UNSET)
        assert done.rc and "litellm_url is not set" in done.output and "namespace" in done.output, done.output


def test_no_cluster_is_asked_for_what_is_given(
    runner: harness.Runner, lab: Any, stack: harness.Stack, prefix: str
) -> None:
    """A lab's own cluster may be the one of the environment."""
    env = {"K8S_AUTH_HOST": "https://127.0.0.1:1", "K8S_AUTH_API_KEY": "x", "KUBECONFIG": "/nowhere"}
    lists = {f"{MODELS}list": [], f"{MODELS}sync_from_litellm": True}
    done = runner.playbook("rhpds.litemaas.manage_models", {"namespace": prefix, **lists}, check=True, env=env)
    assert done.rc == 0, done.output
    variables = {"namespace": prefix, "guid": lab.guid, "output_dir": str(runner.folder), f"{KEYS}models": lab.models}
    done = runner.playbook("rhpds.litemaas.provision_key", variables, check=True, env=env)
    assert done.rc == 0, done.output
    # What isn't set and no namespace either: the cluster of the environment isn't meant.
    del variables["namespace"]
    done = runner.playbook("rhpds.litemaas.provision_key", variables, env={**env, "LITELLM_URL": ""})
    assert done.rc and "litellm_url is not set" in done.output and "127.0.0.1:1" not in done.output, done.output
    # Not even for the catalogue's database alone.
    done = runner.playbook("rhpds.litemaas.manage_models", lists, env={**env, "LITEMAAS_DSN": ""})
    assert done.rc and "litemaas_dsn is not set: LiteMaaS's database" in done.output, done.output
    assert "or set namespace" in done.output and "127.0.0.1:1" not in done.output, done.output
    result = runner.module("litellm_model_info", {"namespace": prefix}, env=env)
    assert not result.failed and "found" not in result, result["msg"]
    # Which may be another deployment's.
    said = " ".join(str(one) for one in result["warnings"])
    assert f"litellm_url is that of LITELLM_URL in the environment, not that of namespace {prefix}" in said, said


# ---- addresses ----


class Router(ThreadingHTTPServer):
    """Takes requests for any host to the stack's proxy, as an HTTP proxy of the environment: no such host resolves."""

    def __init__(self, target: str) -> None:
        hosts = self.hosts = []  # type: list[str]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urllib.parse.urlsplit(self.path)
                hosts.append(f"{parts.scheme}://{parts.netloc}")
                headers = {"authorization": self.headers["authorization"]}
                answer = requests.get(f"{target}{parts.path}?{parts.query}", headers=headers, timeout=60)
                self.send_response(answer.status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_request(self, *_given: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def env(self) -> dict[str, str]:
        return {"http_proxy": f"http://127.0.0.1:{self.server_address[1]}", "no_proxy": "127.0.0.1"}


@pytest.fixture
def router(stack: harness.Stack) -> Iterator[Router]:
    with Router(stack.url) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_route_is_known_by_its_backend(
    inside: Callable[..., Any], namespace: Namespace, router: Router, stack: harness.Stack
) -> None:
    """Not by its name, and not by its age."""
    namespace.secret("litellm-secret", LITELLM_MASTER_KEY=stack.master_key)
    namespace.service("litellm", 4000)
    namespace.route("litellm", "portal.example.com", "litellm-frontend")
    namespace.route("aaa", "below.example.com", path="/v1")
    namespace.route("whatever", "api.example.com")
    # A load balancer's address, which is used where there is no Route only.
    namespace.ingress("litellm", "http://127.0.0.1:1")
    result = inside("litellm_model_info", env=router.env)
    assert not result.failed, result["msg"]
    assert result["litellm_url"] == "http://api.example.com" and set(router.hosts) == {"http://api.example.com"}
    assert result["found"]["litellm_url"] == f"Route {namespace.name}/whatever"
    assert result["found"]["litellm_master_key"] == f"Secret {namespace.name}/litellm-secret"
    namespace.route("again", "other.example.com", tls={"termination": "edge"})
    place = discover.Namespace(Cluster(kubeconfig=stack.variables["KUBECONFIG"]), namespace.name)
    assert place.litellm_url() == "https://other.example.com"
    assert place.sources["litellm_url"] == f"Route {namespace.name}/again; beside it Route {namespace.name}/whatever"


def test_inside_the_cluster_the_service_has_an_address(
    inside: Callable[..., Any], runner: harness.Runner, namespace: Namespace, router: Router, stack: harness.Stack
) -> None:
    namespace.secret("litellm-secret", LITELLM_MASTER_KEY=stack.master_key)
    namespace.service("litellm", 8080, 4000)
    result = inside("litellm_model_info", env=router.env)
    assert result.failed and "no Route or Ingress leads to Service litellm, which is there" in result["msg"]
    assert "or give litellm_url" in result["msg"] and namespace.name in result["msg"]
    rules = tuple(rule for rule in READ if rule[1] not in ("routes", "ingresses"))
    env = {**router.env, "KUBECONFIG": namespace.account(runner.folder, rules), "KUBERNETES_SERVICE_HOST": "127.0.0.1"}
    result = inside("litellm_model_info", env=env)
    assert not result.failed, result["msg"]
    assert result["litellm_url"] == f"http://litellm.{namespace.name}.svc:8080"
    assert "routes could not be read: HTTP 403" in result["found"]["litellm_url"]


# ---- what can be wrong ----


def test_every_failure_names_what_is_missing_and_what_to_give(
    inside: Callable[..., Any], runner: harness.Runner, namespace: Namespace, stack: harness.Stack
) -> None:
    namespace.litemaas()
    base = {"litellm_url": stack.url, "litellm_master_key": stack.master_key}

    def without(kind: str, number: int) -> str:
        rules = tuple(rule for rule in READ if rule[1] != kind)
        return namespace.account(runner.folder, rules, f"reader{number}")

    def failing(words: tuple[str, ...], option: str, module: str = "litemaas_db_sync", **run: Any) -> None:
        options = {name: value for name, value in base.items() if name != option}
        result = inside(module, **{**options, **run})
        assert result.failed, result
        for word in (*words, namespace.name, f"or give {option}"):
            assert word in result["msg"], f"{word}: {result['msg']}"
        assert not [one for one in secrets_of(stack) - {stack.master_key} if one in json.dumps(result)]

    failing(
        ("secrets", "HTTP 403", "get on secrets"),
        "litellm_master_key",
        "litellm_model_info",
        env={"KUBECONFIG": without("secrets", 1)},
    )
    failing(("litemaas-db", "HTTP 403"), "litemaas_dsn", env={"KUBECONFIG": without("secrets", 2)})
    failing(("services", "HTTP 403", "get on services"), "litemaas_dsn", env={"KUBECONFIG": without("services", 3)})
    failing(("pods", "HTTP 403", "list on pods"), "litemaas_dsn", env={"KUBECONFIG": without("pods", 4)})
    failing(
        ("pods/portforward", "forbidden", "create and get on pods/portforward"),
        "litemaas_dsn",
        env={"KUBECONFIG": without("pods/portforward", 5)},
    )
    namespace.delete("networking.k8s.io/v1", "Ingress", "litellm")
    rules = tuple(rule for rule in READ if rule[1] not in ("routes", "ingresses"))
    failing(
        ("routes could not be read: HTTP 403", "ingresses could not be read", "Service litellm, which is there"),
        "litellm_url",
        "litellm_model_info",
        env={"KUBECONFIG": namespace.account(runner.folder, rules, "reader6")},
    )
    failing(("Connect to the cluster",), "litemaas_dsn", env={"K8S_AUTH_KUBECONFIG": "/nowhere"})
    namespace.core.patch_namespaced_service(POSTGRES, namespace.name, {"spec": {"selector": {"app": "nobody"}}})
    failing(("Service litellm-postgres", "no pod is ready: none has app=nobody"), "litemaas_dsn")
    namespace.pod("held-0", "nobody", stack.litemaas_dsn, wait=False, hold="true")
    failing(("no pod is ready: held-0 is Pending",), "litemaas_dsn")
    namespace.delete("v1", "Secret", "litemaas-db")
    failing(("Secret litemaas-db", "there is none"), "litemaas_dsn")
    namespace.secret("litemaas-db", username="x")
    failing(("neither DATABASE_URL nor password, database",), "litemaas_dsn")
    namespace.delete("v1", "Secret", "litellm-secret")
    namespace.secret("litellm-secret", UI_USERNAME="admin")
    failing(("litellm-secret", "it has no LITELLM_MASTER_KEY"), "litellm_master_key", "litellm_model_info")


def test_a_model_of_another_project_than_its_key_is_found(
    inside: Callable[..., Any], runner: harness.Runner, namespace: Namespace, stack: harness.Stack, prefix: str
) -> None:
    """The key is the one that LiteLLM's pods have; nobody has to say whose it is."""
    namespace.litemaas()
    account = {"type": "service_account", "project_id": "theirs", "private_key": "not-to-be-shown"}
    namespace.secret("vertex", **{"key.json": json.dumps(account)})
    mount = {"name": "vertex", "mountPath": "/etc/vertex"}
    pod = {
        "containers": [{"name": "litellm", "image": "litellm", "volumeMounts": [mount]}],
        "volumes": [{"name": "vertex", "secret": {"secretName": "vertex"}}],
    }
    labels = {"app": "litellm"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    namespace.create("apps/v1", "Deployment", "litellm", spec=spec)
    model = {
        "model_name": f"{prefix}m",
        "litellm_model": "vertex_ai/gemini-2.5-pro",
        "vertex_project": "ours",
        "vertex_credentials": "/etc/vertex/key.json",
    }
    result = inside("litellm_model", **model)
    assert result.failed and "the credentials at /etc/vertex/key.json are of project theirs" in result["msg"], result
    assert "not-to-be-shown" not in json.dumps(result)
    made = inside("litellm_model", **{**model, "vertex_credentials_projects": {"/etc/vertex/key.json": "ours"}})
    assert not made.failed and made.changed, made["msg"]
    # Who may not look isn't kept from anything.
    env = {"KUBECONFIG": namespace.account(runner.folder)}
    unseen = inside("litellm_model", env=env, **model)
    assert not unseen.failed, unseen["msg"]
    assert "not read: " in unseen["found"]["vertex_credentials_projects"]
    assert "get on deployments.apps" in unseen["found"]["vertex_credentials_projects"]
