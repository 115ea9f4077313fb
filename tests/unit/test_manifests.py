# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role ocp4_workload_litemaas renders in each mode: valid for Kubernetes 1.33, and policy-tested.

Policy-tested means read: NetworkPolicies, security contexts and mounts are looked at here, and enforced nowhere.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "ocp4_workload_litemaas"
VERSION = "1.33"
PREFIX = "ocp4_workload_litemaas_"
#: Kinds that Kubernetes itself doesn't have; kubernetes-validate knows no schema of them.
OPENSHIFT = {"Route", "OAuthClient", "Group"}
SECRETS = {
    "litellm-secret": {"UI_USERNAME": "admin", "UI_PASSWORD": "s3cret-ui", "LITELLM_MASTER_KEY": "sk-s3cret-master"},
    "backend-secret": {"OAUTH_CLIENT_SECRET": "s3cret-oauth"},
}
#: What is given and must not be seen in any manifest.
GIVEN = {
    "ha_postgres_password": "s3cret-database",
    "redis_password": "s3cret-redis",
    "litellm_master_key": "sk-s3cret-master",
    "litellm_salt_key": "sk-s3cret-salt",
    "litellm_ui_password": "s3cret-ui",
    "litellm_license_key": "s3cret-licence",
    "jwt_secret": "s3cret-jwt",
    "admin_api_key": "ltm_admin_s3cret",
    "oauth_client_secret": "s3cret-oauth",
}
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "oauth": {"oauth_enabled": True, "groups_enabled": True, "admin_group_users": ["ann"]},
    "oidc": {"oauth_enabled": True, "oauth_provider": "oidc", "oauth_issuer": "https://sso.example.com/realms/lab"},
    "shared": {"database_layout": "shared", "ha_postgres_db": "litellm"},
    "external_database": {"ha_enable_postgres": False, "postgres_host": "db.example.com"},
    "no_redis": {"ha_enable_redis": False},
    "external_redis": {"ha_enable_redis": False, "redis_host": "redis.example.com", "redis_ssl": True},
    "branding": {
        "branding_enabled": True,
        "branding_page_title": "Lab & more",
        "branding_page_texts": {"Welcome to LiteMaaS.": "Welcome | all"},
        "branding_favicon_path": "{{ manifests_folder }}/icon.png",
    },
    "mcp": {
        "deploy_mcp": True,
        "mcp_image": "quay.io/example/mcp:1.0",
        "mcp_env_secret": "mcp-env",
        "mcp_peers": [{"podSelector": {"matchLabels": {"app": "agent"}}}],
    },
    "hpa": {"hpa_enabled": True, "image_pull_secrets": ["quay"]},
    "sclorg": {
        "ha_postgres_image": "registry.redhat.io/rhel9/postgresql-16:latest",
        "ha_redis_image": "docker.io/library/redis:7",
    },
    "litellm_only": {"deploy_backend": False, "deploy_frontend": False, "ha_litellm_replicas": 1},
    "kubernetes": {
        "ingress_class": "nginx",
        "ingress_tls_secret": "tls",
        "cluster_domain": "lab.example.com",
        "litellm_extra_peers": [{"namespaceSelector": {"matchLabels": {"lab": "yes"}}}],
    },
    "patient": {"wait_timeout": 3600},
    "insecure": {"backend_verify_tls": False, "litellm_auto_sync": True, "version": "0.5.0"},
}


LITELLM = "quay.io/rh-aiservices-bu/litellm-non-root:main-v1.81.0-stable-custom"
#: What is asked of a deployment, and how it differs from a fresh one.
SITUATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "same": (
        {"cluster_domain": "lab.example.com"},
        {
            "images": {"litellm": LITELLM, "postgres": "docker.io/library/postgres:16"},
            "info": {"cluster_domain": "apps.example.com"},
        },
    ),
    "newer_postgres": (
        {"ha_postgres_image": "docker.io/library/postgres:17"},
        {"images": {"postgres": "docker.io/library/postgres:16.4-alpine"}},
    ),
    "newer_postgres_of_red_hat": (
        {"ha_postgres_image": "registry.redhat.io/rhel9/postgresql-16:1-20"},
        {"images": {"postgres": "registry.redhat.io/rhel9/postgresql-15:1-20"}},
    ),
    "minor_postgres": (
        {"ha_postgres_image": "registry.example.com:5000/postgres:16.6"},
        {"images": {"postgres": "docker.io/library/postgres:16"}},
    ),
    "untold_postgres": (
        {"ha_postgres_image": "docker.io/library/postgres@sha256:17aa"},
        {"images": {"postgres": "docker.io/library/postgres:16"}},
    ),
    "external_later": (
        {"ha_enable_postgres": False, "postgres_host": "db.example.com"},
        {"images": {"postgres": "docker.io/library/postgres:16"}, "volumes": ["postgres-storage-litellm-postgres-0"]},
    ),
    "external_over_a_volume": (
        {"ha_enable_postgres": False, "postgres_host": "db.example.com"},
        {"volumes": ["postgres-storage-litellm-postgres-0"]},
    ),
    "external": ({"ha_enable_postgres": False, "postgres_host": "db.example.com"}, {}),
    "other_image": ({"litellm_image": "quay.io/lab/litellm"}, {"images": {"litellm": LITELLM}}),
    "one_route": ({"admin_route_prefix": "litellm", "frontend_route_prefix": "litellm"}, {}),
    "one_database": ({"ha_litellm_postgres_db": "litemaas_db"}, {}),
    "bad_values": ({"ha_postgres_pvc_size": "10GB", "ha_litellm_replicas": 0}, {}),
    "other_names": (
        {"ha_postgres_db": "mine", "ha_litellm_postgres_db": "mine_too"},
        {"layout": "split", "databases": {"litemaas": "litemaas_db", "litellm": "litellm_db"}},
    ),
    "newer_litellm": ({"litellm_tag": "main-v1.85.0-stable"}, {"images": {"litellm": LITELLM}}),
}


def found_in(mode: str) -> dict[str, Any]:
    """What litemaas_cluster_info would say."""
    return {
        "platform": "kubernetes" if mode == "kubernetes" else "openshift",
        "domain": "" if mode == "kubernetes" else "apps.example.com",
        "live": {},
        "api_versions": [],
        "problems": [],
        "storage_class": {"name": "" if mode == "kubernetes" else "gp3-csi"},
        "namespace": {"exists": False, "ours": False},
        "deployment": {"exists": False, "hpas": [], "images": {}, "replicas": {}, "databases": {}, "layout": ""},
    }


def situation(settings: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    """A host's variables."""
    live = dict(live)
    info = found_in("default") | {"volumes": live.pop("volumes", [])} | live.pop("info", {})
    info["deployment"] |= live
    return {f"{PREFIX}_info": info, **{PREFIX + name: value for name, value in settings.items()}}


def inventory() -> dict[str, Any]:
    hosts = {}
    for mode, settings in MODES.items():
        resources = [
            {
                "metadata": {"name": name},
                "data": {key: base64.b64encode(one.encode()).decode() for key, one in of.items()},
            }
            for name, of in SECRETS.items()
        ]
        hosts[mode] = {
            f"{PREFIX}_info": found_in(mode),
            f"{PREFIX}_secrets": {"checksums": {"litellm": "a", "backend": "b", "postgres": "c", "redis": "d"}},
            f"{PREFIX}_secret_objects": {"resources": resources},
            f"{PREFIX}_groups": {"resources": [{"metadata": {"name": "litemaas-admins"}, "users": ["zoe"]}]},
            **{PREFIX + name: value for name, value in (GIVEN | settings).items()},
        }
    situations = {name: situation(*of) for name, of in SITUATIONS.items()}
    groups = {"modes": {"hosts": hosts}, "situations": {"hosts": situations}}
    return {"all": {"children": groups, "vars": {"ansible_python_interpreter": sys.executable}}}


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Mode or situation → what manifests.yml made of it."""
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "icon.png").write_bytes(b"\x89PNG\xff\x00")
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps(inventory()))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(hosts), str(ROOT / "tests/unit/manifests.yml")]
    command += ["-e", f"manifests_folder={folder}", "-e", f"role_templates={ROLE}/templates", "--forks", "2"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "DEPRECATION WARNING" not in done.stdout + done.stderr
    made: dict[str, dict[str, Any]] = json.loads((folder / "rendered.json").read_text())
    assert made.keys() == {*MODES, *SITUATIONS}
    return made


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objects(rendered: dict[str, dict[str, Any]], mode: str) -> list[dict[str, Any]]:
    """Every object of a mode, but the OAuthClient."""
    return of(rendered, mode)


def of(rendered: dict[str, dict[str, Any]], mode: str) -> list[dict[str, Any]]:
    steps = rendered[mode]["steps"].values()
    return [rendered[mode]["namespace"], *(one for step in steps for one in step["definitions"])]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    found = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind}/{name}: {len(found)}"
    return found[0]


def has(objects: list[dict[str, Any]], kind: str, name: str) -> bool:
    return any((one["kind"], one["metadata"]["name"]) == (kind, name) for one in objects)


def key(one: dict[str, Any]) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def workloads(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod template of each workload."""
    for one in objects:
        if one["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    return template["spec"].get("initContainers", []) + template["spec"]["containers"]


def environment(objects: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Variables of a Deployment's container: the value, or ``Secret/key``."""
    found = {}
    for entry in named(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]["env"]:
        reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
        found[entry["name"]] = f"{reference['name']}/{reference['key']}" if reference else entry["value"]
    return found


# Valid


def test_every_object_is_valid(rendered: dict[str, dict[str, Any]], objects: list[dict[str, Any]], mode: str) -> None:
    for one in [*objects, rendered[mode]["oauth"]]:
        if one["kind"] in OPENSHIFT:
            assert "openshift.io/" in one["apiVersion"]
            continue
        validate(json.dumps(one, sort_keys=True))


@cache
def validate(text: str) -> None:
    """Most modes have most objects in common, and a look at one takes a third of a second."""
    kubernetes_validate.validate(json.loads(text), VERSION, strict=True)


def test_every_object_is_named_once_and_marked(objects: list[dict[str, Any]]) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    for one in objects:
        if one["kind"] == "Group":
            assert "labels" not in one["metadata"], "it is other people's too"
            continue
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "rhpds.litemaas"
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == "litemaas"


def test_no_manifest_holds_a_secret(
    rendered: dict[str, dict[str, Any]], objects: list[dict[str, Any]], mode: str
) -> None:
    assert not any(one["kind"] == "Secret" for one in objects)
    text = json.dumps(objects)
    assert "s3cret" not in text
    # The one that has to, and whose task shows nothing.
    assert rendered[mode]["oauth"]["secret"] == "s3cret-oauth"


def test_no_variable_is_declared_and_not_read() -> None:
    defaults = re.findall(rf"^({PREFIX}\w+):", (ROLE / "defaults/main.yml").read_text(), re.MULTILINE)
    files = [*ROLE.glob("tasks/*"), *ROLE.glob("templates/*"), ROLE / "vars/main.yml", ROLE / "defaults/main.yml"]
    text = "\n".join(path.read_text() for path in files)
    resources = re.compile(rf"{PREFIX}ha_(litellm|backend|frontend|postgres|redis)_(cpu|memory)_(request|limit)")
    unread = [
        name
        for name in defaults
        if not resources.fullmatch(name) and len(re.findall(rf"(?<!\w){name}(?!\w)", text)) < 2
    ]
    assert not unread


def test_every_variable_is_documented() -> None:
    defaults = re.findall(rf"^{PREFIX}(\w+):", (ROLE / "defaults/main.yml").read_text(), re.MULTILINE)
    specs, readme = (ROLE / "meta/argument_specs.yml").read_text(), (ROLE / "README.md").read_text()
    for name in defaults:
        assert f"      {PREFIX}{name}:" in specs, name
        assert f"`…{name}`" in readme or re.fullmatch(r"ha_\w+_(cpu|memory)_(request|limit)", name), name


# Pods


def test_pods_pass_the_restricted_policy(objects: list[dict[str, Any]], mode: str) -> None:
    for name, template in workloads(objects):
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # OpenShift chooses a user of the namespace's own; one that is given would be refused.
        assert ("runAsUser" in pod, "fsGroup" in pod) == (mode == "kubernetes",) * 2, name
        assert template["spec"]["automountServiceAccountToken"] is False, name
        for container in containers(template):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert set(security) == {"allowPrivilegeEscalation", "capabilities"}
        for volume in template["spec"].get("volumes", []):
            assert set(volume) - {"name"} <= {"configMap", "emptyDir"}, volume


def test_containers_have_resources_and_probes(objects: list[dict[str, Any]]) -> None:
    for name, template in workloads(objects):
        for container in containers(template):
            for what in ("requests", "limits"):
                assert set(container["resources"][what]) == {"cpu", "memory"}, (name, container["name"])
            assert "image" in container and container["image"].count(":") == 1, container["image"]
        if template["spec"].get("restartPolicy") != "Never":
            for container in template["spec"]["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), name


def test_probes_are_those_that_the_servers_have(rendered: dict[str, dict[str, Any]]) -> None:
    objects = of(rendered, "default")
    wanted = {
        "litellm": ("/health/readiness", "/health/liveliness", 4000),
        "litellm-backend": ("/api/v1/health/ready", "/api/v1/health/live", 8080),
        "litellm-frontend": ("/", "/", 8080),
    }
    for name, (ready, live, port) in wanted.items():
        container = named(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
        assert container["readinessProbe"]["httpGet"] == {"path": ready, "port": port}
        assert container["livenessProbe"]["httpGet"] == {"path": live, "port": port}
        assert container["ports"] == [{"name": "http", "containerPort": port, "protocol": "TCP"}]


def test_a_runs_patience_changes_no_deployment(rendered: dict[str, dict[str, Any]]) -> None:
    patient = {key(one): one for one in of(rendered, "patient") if one["kind"] != "Job"}
    others = {key(one): one for one in of(rendered, "default") if one["kind"] != "Job"}
    assert patient == others
    assert others["Deployment/litellm"]["spec"]["progressDeadlineSeconds"] == 600


def test_selectors_find_their_pods(objects: list[dict[str, Any]]) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in workloads(objects)}
    for one in objects:
        if one["kind"] in ("Deployment", "StatefulSet"):
            wanted = one["spec"]["selector"]["matchLabels"]
            assert wanted.items() <= labels[one["metadata"]["name"]].items()
        if one["kind"] == "Service":
            assert any(one["spec"]["selector"].items() <= found.items() for found in labels.values())
            assert all(port["protocol"] == "TCP" for port in one["spec"]["ports"])
        if one["kind"] == "PodDisruptionBudget":
            assert one["spec"]["selector"]["matchLabels"].items() <= labels[one["metadata"]["name"]].items()


def test_replicas_can_be_evicted_and_are_spread(objects: list[dict[str, Any]]) -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "PodDisruptionBudget"}
    for name, template in workloads(objects):
        replicas = (
            next(one for one in objects if one["metadata"]["name"] == name and "replicas" in one["spec"])
            if (name in ("litellm", "litellm-backend", "litellm-frontend"))
            else None
        )
        if replicas is None:
            assert name not in budgets
            continue
        assert (name in budgets) == (replicas["spec"]["replicas"] > 1)
        if name in budgets:
            assert budgets[name]["maxUnavailable"] == 1 < replicas["spec"]["replicas"]
        keys = {one["topologyKey"] for one in template["spec"]["topologySpreadConstraints"]}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        assert replicas["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


# Network


def admitted(objects: list[dict[str, Any]], app: str, port: int) -> list[dict[str, Any]]:
    """Peers that some policy lets in to the pods of an app, on a port."""
    found = []
    for one in objects:
        if one["kind"] != "NetworkPolicy" or not selects(one["spec"]["podSelector"], {"app": app}):
            continue
        for rule in one["spec"].get("ingress", []):
            assert rule.get("from") and rule.get("ports"), f"{one['metadata']['name']} lets everything in"
            if port in [entry["port"] for entry in rule["ports"]]:
                found += rule["from"]
    return found


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])
    )


def reaches(objects: list[dict[str, Any]], labels: dict[str, str], app: str, port: int) -> bool:
    """Whether a pod with these labels in the namespace gets to the app's port."""
    return any(
        "namespaceSelector" not in peer and selects(peer["podSelector"], labels)
        for peer in admitted(objects, app, port)
    )


def test_nothing_gets_in_by_default(objects: list[dict[str, Any]]) -> None:
    spec = named(objects, "NetworkPolicy", "default-deny-ingress")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for one in objects:
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] != "default-deny-ingress":
            assert one["spec"]["podSelector"], "a policy for every pod"
            assert all(peer != {"podSelector": {}} for rule in one["spec"]["ingress"] for peer in rule["from"])


def test_the_database_is_reached_by_those_that_need_it(objects: list[dict[str, Any]], mode: str) -> None:
    if mode == "external_database":
        assert not has(objects, "NetworkPolicy", "allow-postgres-from-litellm-only")
        return
    clients = {"litellm", "litellm-backend", "litellm-migration"} | ({"litemaas-mcp"} if mode == "mcp" else set())
    for app in (
        "litellm",
        "litellm-backend",
        "litellm-frontend",
        "litellm-migration",
        "litellm-redis",
        "litemaas-mcp",
        "x",
    ):
        assert reaches(objects, {"app": app}, "litellm-postgres", 5432) == (app in clients), app
    assert reaches(objects, {"rhpds.litemaas/database-client": "true"}, "litellm-postgres", 5432)
    assert not [peer for peer in admitted(objects, "litellm-postgres", 5432) if "namespaceSelector" in peer]
    # Whoever the pods are, their labels are those that the policy means.
    for name, template in workloads(objects):
        urls = [
            entry for one in containers(template) for entry in one.get("env", []) if entry["name"] == "DATABASE_URL"
        ]
        if urls:
            assert reaches(objects, template["metadata"]["labels"], "litellm-postgres", 5432), name


def test_redis_is_reached_by_litellm_alone(objects: list[dict[str, Any]], mode: str) -> None:
    if mode in ("no_redis", "external_redis"):
        assert not has(objects, "Deployment", "litellm-redis")
        return
    for app in ("litellm", "litellm-backend", "litellm-frontend", "litellm-postgres", "litemaas-mcp"):
        assert reaches(objects, {"app": app}, "litellm-redis", 6379) == (app == "litellm"), app
    assert not [peer for peer in admitted(objects, "litellm-redis", 6379) if "namespaceSelector" in peer]


def test_the_router_reaches_what_has_a_route(objects: list[dict[str, Any]], mode: str) -> None:
    router = (
        {"kubernetes.io/metadata.name": "ingress-nginx"}
        if mode == "kubernetes"
        else {"network.openshift.io/policy-group": "ingress"}
    )
    for app, port in (("litellm", 4000), ("litellm-backend", 8080), ("litellm-frontend", 8080)):
        assert {"namespaceSelector": {"matchLabels": router}} in admitted(objects, app, port)
    for app, port in (("litellm-postgres", 5432), ("litellm-redis", 6379), ("litemaas-mcp", 8080)):
        assert {"namespaceSelector": {"matchLabels": router}} not in admitted(objects, app, port)
    assert reaches(objects, {"app": "litellm-frontend"}, "litellm-backend", 8080) == (mode != "litellm_only")
    assert reaches(objects, {"app": "litellm-backend"}, "litellm", 4000)
    assert not reaches(objects, {"app": "litellm-frontend"}, "litellm", 4000)


def test_who_else_may_call_is_said_by_name(rendered: dict[str, dict[str, Any]]) -> None:
    assert MODES["kubernetes"]["litellm_extra_peers"][0] in admitted(of(rendered, "kubernetes"), "litellm", 4000)
    assert admitted(of(rendered, "mcp"), "litemaas-mcp", 8080) == MODES["mcp"]["mcp_peers"]


# Ways in


def test_routes(rendered: dict[str, dict[str, Any]]) -> None:
    objects = of(rendered, "default")
    hosts = {"litellm": "litellm", "litellm-admin": "litellm-backend", "litellm-frontend": "litellm-frontend"}
    for name, service in hosts.items():
        route = named(objects, "Route", name)
        assert route["spec"]["host"] == f"{name}.apps.example.com"
        assert route["spec"]["to"]["name"] == service
        assert route["spec"]["tls"] == {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}
        assert route["metadata"]["annotations"]["haproxy.router.openshift.io/timeout"] == "600s"
        assert route["spec"].get("path") == ("/api" if name == "litellm-admin" else None)
    assert named(objects, "Service", "litellm-backend")["spec"]["sessionAffinity"] == "ClientIP"


def test_ingresses_on_plain_kubernetes(rendered: dict[str, dict[str, Any]]) -> None:
    objects = of(rendered, "kubernetes")
    assert not [one for one in objects if one["kind"] == "Route"]
    backend = named(objects, "Ingress", "litellm-admin")
    assert backend["spec"]["rules"][0]["host"] == "litellm-admin.lab.example.com"
    assert backend["spec"]["rules"][0]["http"]["paths"][0]["path"] == "/api"
    assert backend["metadata"]["annotations"]["nginx.ingress.kubernetes.io/affinity"] == "cookie"
    assert backend["spec"]["tls"] == [{"hosts": ["litellm-admin.lab.example.com"], "secretName": "tls"}]


def test_login(rendered: dict[str, dict[str, Any]]) -> None:
    env = environment(of(rendered, "oauth"), "litellm-backend")
    assert env["OAUTH_ISSUER"] == "https://oauth-openshift.apps.example.com"
    assert env["OAUTH_CALLBACK_URL"] == "https://litellm-frontend.apps.example.com/api/auth/callback"
    assert env["OAUTH_CLIENT_ID"] == rendered["oauth"]["oauth"]["metadata"]["name"] == "litemaas"
    names = ("litellm", "litellm-admin", "litellm-frontend")
    uris = [f"https://{name}.apps.example.com/api/auth/callback" for name in names]
    assert rendered["oauth"]["oauth"]["redirectURIs"] == uris
    assert named(of(rendered, "oauth"), "Group", "litemaas-admins")["users"] == ["zoe", "ann"]
    assert named(of(rendered, "oauth"), "Group", "litemaas-readonly")["users"] == []
    oidc = environment(of(rendered, "oidc"), "litellm-backend")
    assert (oidc["OAUTH_ISSUER"], oidc["AUTH_PROVIDER"]) == ("https://sso.example.com/realms/lab", "oidc")


# Databases and configuration


def test_layouts(rendered: dict[str, dict[str, Any]]) -> None:
    for mode, databases in (("default", ("litemaas_db", "litellm_db")), ("shared", ("litellm", "litellm"))):
        container = named(of(rendered, mode), "StatefulSet", "litellm-postgres")["spec"]["template"]["spec"][
            "containers"
        ][0]
        values = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert (values["LITEMAAS_DATABASE"], values["LITELLM_DATABASE"]) == databases
        assert "command" not in container, "the image's entrypoint initialises the volume"
        assert container["args"] == ["-c", "max_connections=200"]
        assert values["PGDATA"].startswith(container["volumeMounts"][0]["mountPath"] + "/")
    objects = of(rendered, "external_database")
    assert not has(objects, "StatefulSet", "litellm-postgres") and not has(objects, "Service", "litellm-postgres")


def test_images_of_red_hat(rendered: dict[str, dict[str, Any]]) -> None:
    objects = of(rendered, "sclorg")
    container = named(objects, "StatefulSet", "litellm-postgres")["spec"]["template"]["spec"]["containers"][0]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert values["POSTGRESQL_MAX_CONNECTIONS"] == "200"
    assert {"POSTGRESQL_USER", "POSTGRESQL_PASSWORD", "POSTGRESQL_DATABASE"} <= set(values)
    assert "args" not in container and container["volumeMounts"][0]["mountPath"] == "/var/lib/pgsql/data"
    redis = named(objects, "Deployment", "litellm-redis")["spec"]["template"]["spec"]["containers"][0]
    assert "--requirepass" in redis["args"]
    standard = named(of(rendered, "default"), "Deployment", "litellm-redis")["spec"]["template"]["spec"]["containers"][
        0
    ]
    assert "args" not in standard


class Postgres:
    """A server on an empty folder, reached by its socket as in its image; nobody runs it where root may not."""

    def __init__(self, superuser: str) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        if not found:
            pytest.skip("PostgreSQL's programs are not in /usr/lib/postgresql")
        self.bin, self.superuser = found[-1], superuser
        self.account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        # Not pytest's folder, which other users do not get into.
        self.folder = Path(tempfile.mkdtemp(prefix="rhpds-litemaas-"))
        if self.account:
            shutil.chown(self.folder, "nobody", "nogroup")

    def __enter__(self) -> Postgres:
        self.run("initdb", "-D", "data", "--auth", "trust", "--username", self.superuser, "--no-sync")
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off"
        self.run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        return self

    def __exit__(self, *_error: object) -> None:
        self.run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def run(self, program: str, *arguments: str, text: str = "", **variables: str) -> str:
        env = {"PATH": f"{self.bin}:/usr/bin:/bin", "LC_ALL": "C", "PGHOST": str(self.folder), **variables}
        # A server that goes on would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [program, *arguments],
                input=text,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                cwd=self.folder,
                env=env,
                **self.account,
            )
            output.seek(0)
            said = output.read()
        assert done.returncode == 0, f"{program}: {said}"
        return said.strip()

    def ask(self, database: str, query: str) -> list[str]:
        return self.run("psql", "-AtXqU", self.superuser, "-d", database, "-c", query).splitlines()

    def prepared(self) -> tuple[list[str], list[str]]:
        """Databases with their owners, and the extensions of LiteMaaS's."""
        owners = (
            "SELECT datname || ' ' || pg_get_userbyid(datdba) FROM pg_database WHERE datname LIKE '%_db' ORDER BY 1"
        )
        extensions = "SELECT extname FROM pg_extension WHERE extname = 'pgcrypto'"
        return self.ask("postgres", owners), self.ask("litemaas_db", extensions)


PREPARED = (["litellm_db litellm", "litemaas_db litellm"], ["pgcrypto"])


def script_of(objects: list[dict[str, Any]], config_map: str, name: str) -> str:
    return str(named(objects, "ConfigMap", config_map)["data"][name])


def test_the_official_image_makes_its_databases(rendered: dict[str, dict[str, Any]]) -> None:
    script = script_of(of(rendered, "default"), "litellm-postgres-init", "create-databases.sh")
    container = named(of(rendered, "default"), "StatefulSet", "litellm-postgres")["spec"]["template"]["spec"][
        "containers"
    ]
    values = {entry["name"]: entry["value"] for entry in container[0]["env"] if "value" in entry}
    with Postgres("litellm") as server:
        # What the entrypoint has done by then. No role has the name of the system's user.
        server.ask("postgres", "CREATE DATABASE litemaas_db")
        for _time in range(2):
            server.run("bash", "-Eeuo", "pipefail", text=script, POSTGRES_USER="litellm", **values)
            assert server.prepared() == PREPARED


def test_images_of_red_hat_make_them_at_each_start(rendered: dict[str, dict[str, Any]]) -> None:
    container = named(of(rendered, "sclorg"), "StatefulSet", "litellm-postgres")["spec"]["template"]["spec"][
        "containers"
    ][0]
    # Not postgresql-init, which comes before the user is made.
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["init"] == "/opt/app-root/src/postgresql-start"
    script = script_of(of(rendered, "sclorg"), "litellm-postgres-init", "create-databases.sh")
    values = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    with Postgres("postgres") as server:
        server.ask("postgres", "CREATE ROLE litellm LOGIN")
        server.ask("postgres", "CREATE DATABASE litemaas_db OWNER litellm")
        for _time in range(2):
            server.run("bash", "-euo", "pipefail", text=script, POSTGRESQL_USER="litellm", **values)
            assert server.prepared() == PREPARED


def test_the_migration_makes_what_a_first_start_left_out(rendered: dict[str, dict[str, Any]]) -> None:
    job = next(one for one in of(rendered, "default") if one["kind"] == "Job")
    init = job["spec"]["template"]["spec"]["initContainers"][0]
    values = {entry["name"]: entry["value"] for entry in init["env"] if "value" in entry}
    script = script_of(of(rendered, "default"), "litellm-migration", init["command"][1].rpartition("/")[2])
    with Postgres("litellm") as server:
        server.ask("postgres", "CREATE DATABASE litemaas_db")
        url = f"postgresql://litellm@/litemaas_db?host={server.folder}"
        for _time in range(2):
            server.run("sh", text=script, LITEMAAS_DATABASE_URL=url, **values)
            assert server.prepared() == PREPARED


def test_litellm_is_told_what_it_reads(rendered: dict[str, dict[str, Any]]) -> None:
    objects = of(rendered, "default")
    env = environment(objects, "litellm")
    assert env["DATABASE_URL"] == "litemaas-db/LITELLM_DATABASE_URL"
    assert env["LITELLM_SALT_KEY"] == "litellm-secret/LITELLM_SALT_KEY"
    assert env["LITELLM_LICENSE"] == "litellm-secret/LITELLM_LICENSE"
    assert (env["STORE_MODEL_IN_DB"], env["DISABLE_SCHEMA_UPDATE"]) == ("True", "true")
    config = named(objects, "ConfigMap", "litellm-config")["data"]["config.yaml"]
    assert "host: litellm-redis" in config and "database_connection_pool_limit: 10" in config
    assert "cache: false" in named(of(rendered, "no_redis"), "ConfigMap", "litellm-config")["data"]["config.yaml"]
    assert (
        "redis.example.com"
        in named(of(rendered, "external_redis"), "ConfigMap", "litellm-config")["data"]["config.yaml"]
    )


def test_the_backend_is_told_what_it_reads(rendered: dict[str, dict[str, Any]]) -> None:
    env = environment(of(rendered, "default"), "litellm-backend")
    assert env["DATABASE_URL"] == "litemaas-db/DATABASE_URL"
    assert env["ADMIN_API_KEYS"] == "backend-secret/ADMIN_API_KEY"
    assert env["LITELLM_API_KEY"] == "litellm-secret/LITELLM_MASTER_KEY"
    assert (env["DB_MAX_CONNECTIONS"], env["LITELLM_AUTO_SYNC"]) == ("20", "false")
    assert env["DEFAULT_USER_MAX_BUDGET"] == "2000" and env["INITIAL_ADMIN_USERS"] == "admin"
    assert not any(name.startswith("REDIS") for name in env), "it would empty LiteLLM's Redis"
    assert "NODE_TLS_REJECT_UNAUTHORIZED" not in env
    other = environment(of(rendered, "insecure"), "litellm-backend")
    assert (other["NODE_TLS_REJECT_UNAUTHORIZED"], other["LITELLM_AUTO_SYNC"]) == ("0", "true")


def test_a_backend_waits_for_its_database(rendered: dict[str, dict[str, Any]]) -> None:
    init = named(of(rendered, "default"), "Deployment", "litellm-backend")["spec"]["template"]["spec"][
        "initContainers"
    ][0]
    assert init["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "litemaas-db", "key": "DATABASE_URL"}
    assert 'psql "$DATABASE_URL"' in init["command"][2]


def test_one_version_for_backend_and_frontend(rendered: dict[str, dict[str, Any]]) -> None:
    for name in ("backend", "frontend"):
        template = named(of(rendered, "insecure"), "Deployment", f"litellm-{name}")["spec"]["template"]
        assert template["spec"]["containers"][0]["image"] == f"quay.io/rh-aiservices-bu/litemaas-{name}:0.5.0"


def test_branding_of_pages(rendered: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    objects = of(rendered, "branding")
    spec = named(objects, "Deployment", "litellm-frontend")["spec"]["template"]["spec"]
    assert spec["initContainers"][0]["image"] == spec["containers"][0]["image"]
    branding = named(objects, "ConfigMap", "litemaas-branding")
    assert base64.b64decode(branding["binaryData"]["favicon"]) == b"\x89PNG\xff\x00"
    # What sed makes of a page.
    (tmp_path / "texts.sed").write_text(branding["data"]["texts.sed"])
    page = '<title>LiteMaaS</title>t("Welcome to LiteMaaS."),"Welcome to LiteMaaSx"'
    done = subprocess.run(
        ["sed", "-f", str(tmp_path / "texts.sed")], input=page, capture_output=True, text=True, check=True
    )
    assert done.stdout == '<title>Lab & more</title>t("Welcome | all"),"Welcome to LiteMaaSx"'
    assert not has(of(rendered, "default"), "ConfigMap", "litemaas-branding")


def test_an_autoscaler_is_counted(rendered: dict[str, dict[str, Any]]) -> None:
    hpa = named(of(rendered, "hpa"), "HorizontalPodAutoscaler", "litellm")["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (3, 6)
    assert rendered["hpa"]["connections"]["sum"] == rendered["default"]["connections"]["sum"] + 3 * 10


def test_migration_runs_once_for_each_image(rendered: dict[str, dict[str, Any]]) -> None:
    def job(mode: str) -> dict[str, Any]:
        return next(one for one in of(rendered, mode) if one["kind"] == "Job")

    assert job("default")["metadata"]["name"] == job("oauth")["metadata"]["name"]
    assert job("default")["metadata"]["name"] != job("shared")["metadata"]["name"]
    container = job("default")["spec"]["template"]["spec"]["containers"][0]
    deployed = named(of(rendered, "default"), "Deployment", "litellm")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == deployed["image"]
    assert "ttlSecondsAfterFinished" not in job("default")["spec"], "it would be made again, and count as changed"


# What is there already


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        ("newer_postgres", "cannot read the data of another major version"),
        ("newer_postgres_of_red_hat", "cannot read the data of another major version"),
        ("external_later", "has a database of its own (StatefulSet/litellm-postgres, PersistentVolumeClaim/postgres-"),
        (
            "external_over_a_volume",
            "has a database of its own (PersistentVolumeClaim/postgres-storage-litellm-postgres-0)",
        ),
    ],
)
def test_what_would_lose_data_is_refused(rendered: dict[str, dict[str, Any]], situation: str, words: str) -> None:
    (problem,) = rendered[situation]["problems"]
    assert words in problem and "rhpds.litemaas.backup" in problem


def test_what_no_cluster_takes_is_refused(rendered: dict[str, dict[str, Any]]) -> None:
    text = " ".join(rendered["one_route"]["problems"])
    for one, other in (("api", "admin"), ("api", "frontend"), ("admin", "frontend")):
        assert f"{PREFIX}{one}_route_name and {PREFIX}{other}_route_name are both 'litellm'" in text
    assert f"{PREFIX}api_route_prefix and {PREFIX}frontend_route_prefix lead both to litellm.apps" in text
    assert f"{PREFIX}ha_litellm_postgres_db and" in " ".join(rendered["one_database"]["problems"])
    sizes, replicas = sorted(rendered["bad_values"]["problems"], reverse=True)
    assert f"{PREFIX}ha_postgres_pvc_size is '10GB'" in sizes and f"{PREFIX}ha_litellm_replicas is 0" in replicas


def test_names_of_databases_that_are_kept_are_told(rendered: dict[str, dict[str, Any]]) -> None:
    assert rendered["other_names"]["kept"] == [
        f"database litemaas_db ({PREFIX}ha_postgres_db is mine)",
        f"database litellm_db ({PREFIX}ha_litellm_postgres_db is mine_too)",
    ]
    assert rendered["same"]["kept"] == rendered["other_names"]["problems"] == []


@pytest.mark.parametrize("situation", ["same", "minor_postgres", "untold_postgres", "external", "other_image"])
def test_what_loses_nothing_is_not(rendered: dict[str, dict[str, Any]], situation: str) -> None:
    assert rendered[situation]["problems"] == []


def test_a_backup_is_made_before_a_migration(rendered: dict[str, dict[str, Any]]) -> None:
    assert {name for name in SITUATIONS if rendered[name]["backup"]} == {"other_image", "newer_litellm"}


def test_openshift_issues_its_tokens_under_its_own_domain(rendered: dict[str, dict[str, Any]]) -> None:
    assert rendered["same"]["issuer"] == "https://oauth-openshift.apps.example.com"
