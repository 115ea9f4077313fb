# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litemaas_cluster_info against a real API server, and the real PostgreSQL behind its port-forward."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2 import sql

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import facts
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.kube import Kube, Namespace, eventually, workload

MODULE = "litemaas_cluster_info"
OURS = {"app.kubernetes.io/managed-by": "rhpds.litemaas"}


@pytest.fixture(scope="module")
def kube(stack: harness.Stack) -> Kube:
    return Kube(stack)


@pytest.fixture
def place(kube: Kube) -> Iterator[Namespace]:
    with kube.namespace() as found:
        yield found


class Info:
    def __init__(self, runner: harness.Runner, kube: Kube) -> None:
        self.runner, self.kube = runner, kube

    def any(self, namespace: str, **options: Any) -> harness.ModuleResult:
        args = {"kubeconfig": self.kube.kubeconfig, "namespace": namespace, **options}
        return self.runner.module(MODULE, args)

    def __call__(self, namespace: str, **options: Any) -> harness.ModuleResult:
        result = self.any(namespace, **options)
        assert not result.failed and not result.changed, result["msg"]
        return result


@pytest.fixture
def info(runner: harness.Runner, kube: Kube) -> Info:
    return Info(runner, kube)


def test_a_cluster_where_nothing_is_yet(info: Info, kube: Kube) -> None:
    found = info("not-there-yet")
    assert found["problems"] == [] and found["missing_rights"] == []
    assert found["namespace"]["exists"] is False and found["deployment"]["exists"] is False
    assert (found["platform"], found["provider"]) == ("openshift", "aws")
    ingress = kube.call("GET", "apis/config.openshift.io/v1/ingresses/cluster")
    assert found["domain"] == ingress["spec"]["domain"]
    assert found["storage_class"] == {"name": "gp3-csi", "how": "by provider"}
    assert found["storage_classes"] == ["gp3-csi", "standard"]
    assert {"v1/Pod", "apps/v1/Deployment", "route.openshift.io/v1/Route"} <= set(found["api_versions"])
    assert "policy/v1/PodDisruptionBudget" not in found["api_versions"]
    assert "apps/v1/Scale" not in found["api_versions"]
    assert info("not-there-yet", cluster_domain="a.example.com")["domain"] == "a.example.com"


def test_a_storage_class_that_is_not_there_is_a_problem_that_names_those_that_are(info: Info) -> None:
    found = info("not-there-yet", storage_class="fast")
    assert found["problems"] == ["StorageClass fast doesn't exist. The cluster has gp3-csi, standard"]
    assert info("not-there-yet", storage_class="standard")["storage_class"] == {"name": "standard", "how": "given"}
    assert info("not-there-yet", storage_class="", external_database=True)["problems"] == []


def test_a_namespace_of_the_cluster_or_of_somebody_else_is_a_problem(info: Info, kube: Kube, place: Namespace) -> None:
    (system,) = info("kube-system")["problems"]
    assert "kube-system is the cluster's own" in system
    assert info(place.name)["problems"] == []
    place.deployment("shop")
    (foreign,) = info(place.name)["problems"]
    assert f"Namespace {place.name} isn't ours: it has Deployment/shop" in foreign
    assert info(place.name, allow_foreign=True)["problems"] == []
    finalizer = {"metadata": {"finalizers": ["tests.example.com/wait"]}}
    place.create("ConfigMap", "held", **finalizer)
    kube.call("DELETE", f"api/v1/namespaces/{place.name}")
    assert any("is being deleted" in one for one in info(place.name)["problems"])
    place.patch("ConfigMap", "held", {"metadata": {"finalizers": None}})


def test_a_name_of_ours_that_somebody_else_has_taken_is_a_problem(info: Info, place: Namespace) -> None:
    body = workload("litellm")
    body["metadata"]["labels"] = body["spec"]["template"]["metadata"]["labels"] = {"app": "shop"}
    body["spec"]["selector"]["matchLabels"] = {"app": "shop"}
    place.create("Deployment", "litellm", **body)
    (problem,) = info(place.name, allow_foreign=True)["problems"]
    assert "Deployment/litellm" in problem and "somebody else's" in problem


def test_a_deployment_of_an_older_collection_is_known_and_described(info: Info, place: Namespace) -> None:
    place.deployment("litellm", image="quay.io/x/litellm:main-v1.81.0", replicas=3)
    place.deployment("litellm-backend", image="quay.io/x/backend:0.3.2", container="backend")
    place.deployment("grafana")
    place.create("StatefulSet", "litellm-postgres", **workload("litellm-postgres", serviceName="litellm-postgres"))
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "litellm"}
    place.create("HorizontalPodAutoscaler", "any", spec={"maxReplicas": 9, "scaleTargetRef": target})
    spec = {"host": "api.example.com", "to": {"kind": "Service", "name": "litellm"}}
    place.create("Route", "some-name", spec=spec)
    place.secret(
        "litemaas-db", username="litellm", password="pw-12345", DATABASE_URL="postgresql://litellm:p@h/litellm"
    )
    place.secret("litellm-secret", LITELLM_MASTER_KEY="sk-1234567890", empty="")
    backups = json.dumps([{"time": "2026-01-01", "file": "a"}, {"time": "2026-02-01", "file": "b"}])
    place.create("ConfigMap", "litemaas-backups", data={"backups": backups})
    found = info(place.name, check_database=False)
    there = found["deployment"]
    assert (there["exists"], there["ours"], there["adoptable"], there["version"]) == (True, False, True, "0.3.2")
    assert there["images"]["litellm"] == "quay.io/x/litellm:main-v1.81.0" and there["replicas"]["litellm"] == 3
    assert there["hpas"] == ["litellm"] and there["hosts"] == {"api": "api.example.com"}
    assert (there["layout"], there["databases"]) == ("shared", {"litemaas": "litellm", "litellm": "litellm"})
    assert there["salt_key"] is False
    assert found["secrets"]["litellm-secret"] == ["LITELLM_MASTER_KEY"]
    assert [one["file"] for one in found["backups"]] == ["b", "a"]
    assert found["namespace"]["foreign"] and found["namespace"]["others"] == ["Deployment/grafana"]
    assert found["problems"] == []
    live = found["live"]["Deployment/litellm"]
    assert live["spec"]["replicas"] == 3 and live["metadata"]["managedFields"] and "status" not in live
    assert "Deployment/grafana" not in found["live"] and "Route/some-name" not in found["live"]
    assert not any(value in str(found) for value in ("pw-12345", "sk-1234567890"))
    for name in ("litellm", "litellm-backend"):
        place.patch("Deployment", name, {"metadata": {"labels": OURS}})
    place.patch("StatefulSet", "litellm-postgres", {"metadata": {"labels": OURS}})
    there = info(place.name, check_database=False)["deployment"]
    assert there["ours"] and not there["adoptable"]


def test_a_secret_that_is_half_there_beside_a_volume_is_a_problem(info: Info, place: Namespace) -> None:
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = "data-litellm-postgres-0"
    place.create("PersistentVolumeClaim", claim, spec={**size, "storageClassName": "standard"})
    place.secret("litemaas-db", username="litellm")
    found = info(place.name)
    assert found["volumes"] == [claim] and f"PersistentVolumeClaim/{claim}" in found["live"]
    password, key = sorted(found["problems"], key=lambda one: "litellm-secret" in one)
    assert "Secret litemaas-db has no usable password" in password and claim in password and "restore" in password
    assert "Secret litellm-secret has neither a usable LITELLM_MASTER_KEY nor a LITELLM_SALT_KEY" in key
    assert info(place.name, given_secrets=["password", "salt_key"])["problems"] == []


def test_rights_that_lack_are_named_exactly(info: Info, place: Namespace) -> None:
    everything = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"], "resourceNames": ["other"]},
    ]
    token = place.account(*everything)
    account = {"kubeconfig": None, "host": place.kube.server, "api_key": token, "validate_certs": False}
    needs = [
        {"verb": "create", "group": "apps", "resource": "deployments"},
        {"verb": "patch", "group": "apps", "resource": "deployments"},
        {"verb": "create", "resource": "pods/exec"},
        {"verb": "create", "resource": "secrets"},
        {"verb": "create", "group": "oauth.openshift.io", "resource": "oauthclients", "namespace": ""},
    ]
    # Namespaces are the cluster's, and the account may read its own as part of the namespace.
    found = info.any(place.name, storage_class="standard", cluster_domain="x.example.com", needs=needs, **account)
    assert not found.failed, found["msg"]
    assert found["missing_rights"] == [
        f"patch on deployments.apps in {place.name}",
        f"create on pods/exec in {place.name}",
        f"create on secrets in {place.name}",
        "create on oauthclients.oauth.openshift.io in the cluster",
    ]
    assert f"The account lacks a right: create on secrets in {place.name}" in found["problems"]
    assert any("StorageClass exists is not known" in one for one in found["notes"])
    default = info.any(place.name, storage_class="standard", cluster_domain="x.example.com", **account)
    assert f"create on services in {place.name}" in default["missing_rights"]
    assert f"create on deployments.apps in {place.name}" not in default["missing_rights"]


def test_an_account_with_exactly_the_rights_that_are_asked_for(info: Info, place: Namespace) -> None:
    needs = facts.needs_of_a_deploy(place.name, "openshift", namespace_exists=True)
    rules = [{"apiGroups": [one.group], "resources": [one.resource], "verbs": [one.verb]} for one in needs]
    token = place.account(*rules)
    account = {"kubeconfig": None, "host": place.kube.server, "api_key": token, "validate_certs": False}
    found = info.any(place.name, storage_class="standard", cluster_domain="x.example.com", **account)
    assert not found.failed and found["problems"] == [], found["msg"]
    # What a second deploy looks for
    for scope in ("failed_jobs", "leftovers"):
        args = {"namespace": place.name, "scope": scope, **account}
        done = info.runner.module("litemaas_removal", args)
        assert not done.failed, done["msg"]
    # A deploy never takes Secrets away: for a removal it isn't enough, and that is known before anything goes.
    for kind in ("ConfigMap", "Secret"):
        place.create(kind, "ours", metadata={"labels": {facts.MANAGED_BY: "rhpds.litemaas"}})
    reads = {"apiGroups": ["oauth.openshift.io"], "resources": ["oauthclients"], "verbs": ["list"]}
    with cluster_role(place, reads):
        gone = info.runner.module("litemaas_removal", {"namespace": place.name, "scope": "everything", **account})
    assert gone.failed and f"delete on secrets in {place.name}. Nothing was removed" in gone["msg"], gone["msg"]
    assert place.get("ConfigMap", "ours") and place.get("Secret", "ours")


@contextmanager
def cluster_role(place: Namespace, *rules: dict[str, Any]) -> Iterator[None]:
    """Rights to what belongs to the cluster, for all accounts of a namespace."""
    base = "apis/rbac.authorization.k8s.io/v1"
    group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": f"system:serviceaccounts:{place.name}"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": place.name}
    meta = {"metadata": {"name": place.name}}
    try:
        place.kube.call("POST", f"{base}/clusterroles", {**meta, "rules": list(rules)})
        place.kube.call("POST", f"{base}/clusterrolebindings", {**meta, "roleRef": reference, "subjects": [group]})
        yield
    finally:
        for kind in ("clusterrolebindings", "clusterroles"):
            place.kube.call("DELETE", f"{base}/{kind}/{place.name}")


def test_an_oauth_client_and_a_name_that_are_somebody_elses(info: Info, kube: Kube, place: Namespace) -> None:
    clients = "apis/oauth.openshift.io/v1/oauthclients"
    body = {"apiVersion": "oauth.openshift.io/v1", "kind": "OAuthClient", "metadata": {"name": place.name}}
    kube.call("POST", clients, {**body, "redirectURIs": ["https://shop.example.com/callback"]})
    wanted = {"cluster_domain": "x.example.com", "host_prefixes": [place.name], "oauth_client": place.name}
    try:
        with kube.namespace() as other:
            other.create("Route", "shop", spec={"host": f"{place.name}.x.example.com", "to": {"name": "shop"}})
            name, client = info(place.name, **wanted)["problems"]
        assert f"Route shop in {other.name} has the name {place.name}.x.example.com already" in name
        assert f"OAuthClient {place.name} is somebody else's" in client
    finally:
        kube.call("DELETE", f"{clients}/{place.name}")


def test_what_may_not_be_read_is_an_error_and_not_taken_for_missing(info: Info, place: Namespace) -> None:
    token = place.account(
        {"apiGroups": [""], "resources": ["namespaces", "services", "configmaps"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["list"]},
    )
    account = {"kubeconfig": None, "host": place.kube.server, "api_key": token, "validate_certs": False}
    found = info.any(place.name, cluster_domain="x.example.com", storage_class="standard", **account)
    assert found.failed and "list on persistentvolumeclaims" in found["msg"]
    assert f"get on secrets in {place.name}" in found["missing_rights"]
    assert f"get on secrets in {place.name}" in found["msg"] and "deployment" not in found


class Image:
    """The stack's PostgreSQL as an image has it: a superuser that its own machine lets in without a password."""

    def __init__(self) -> None:
        folder = Path(os.environ.get("STACK_DIR") or harness.CHECKOUT / ".stack")
        stored = json.loads((folder / "secrets.json").read_text(encoding="utf-8"))
        self.password = stored["secrets"]["password_postgres"]
        self.user, self.own_password = f"u_{secrets.token_hex(4)}", secrets.token_hex(8)

    def run(self, stack: harness.Stack, *statements: sql.Composable) -> Any:
        """What the last statement answers."""
        place = urlsplit(stack.litemaas_dsn)
        connection = psycopg2.connect(
            host=place.hostname, port=place.port, user="postgres", password=self.password, dbname="postgres"
        )
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchone() if cursor.description else None
        finally:
            connection.close()

    @contextmanager
    def let_in(self, stack: harness.Stack, method: str) -> Iterator[None]:
        user, password = sql.Identifier(self.user), sql.Literal(self.own_password)
        (name,) = self.run(
            stack,
            sql.SQL("SET password_encryption = {}").format(sql.Literal(method)),
            sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(user, password),
            sql.SQL("SHOW hba_file"),
        )
        file = Path(name)
        before = file.read_text(encoding="utf-8")
        reload = sql.SQL("SELECT pg_reload_conf()")
        file.write_text(f"host all {self.user} 127.0.0.1/32 trust\n{before}", encoding="utf-8")
        try:
            self.run(stack, reload)
            yield
        finally:
            file.write_text(before, encoding="utf-8")
            self.run(stack, sql.SQL("DROP ROLE {}").format(user), reload)


def with_database(place: Namespace) -> None:
    place.secret("litellm-secret", LITELLM_MASTER_KEY="sk-1234567890")
    place.create("StatefulSet", "litellm-postgres", **workload("litellm-postgres", serviceName="p"))
    eventually(lambda: place.get("StatefulSet", "litellm-postgres").get("status", {}).get("readyReplicas"))


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
def test_a_password_that_the_database_does_not_ask_for_is_compared_all_the_same(
    info: Info, place: Namespace, stack: harness.Stack, method: str
) -> None:
    image = Image()
    with_database(place)
    place.secret("litemaas-db", username=image.user, password=image.own_password, database="postgres")
    with image.let_in(stack, method):
        right = info(place.name)
        assert right["problems"] == [] and right["notes"] == []
        place.delete("Secret", "litemaas-db")
        place.secret("litemaas-db", username=image.user, password="another-password", database="postgres")
        (problem,) = info(place.name)["problems"]
        assert f"not the one of user {image.user} in the database" in problem and "rotate_database" in problem
        assert "another-password" not in problem
        assert info(place.name, check_database=False)["problems"] == []


def test_a_password_that_the_database_refuses_or_that_cannot_be_compared(
    info: Info, place: Namespace, stack: harness.Stack
) -> None:
    parts = urlsplit(stack.litemaas_dsn)
    names = {"username": str(parts.username), "database": parts.path.lstrip("/")}
    with_database(place)
    place.secret("litemaas-db", password="another-password", **names)
    (problem,) = info(place.name)["problems"]
    assert "The password in Secret litemaas-db" in problem and "ALTER ROLE" in problem
    place.delete("Secret", "litemaas-db")
    place.secret("litemaas-db", password=str(parts.password), **names)
    found = info(place.name)
    # No superuser: it gets in, but the server could have let anybody in.
    assert found["problems"] == [] and "pg_authid" in found["notes"][0]
    place.patch("StatefulSet", "litellm-postgres", {"spec": {"replicas": 0}})
    eventually(lambda: not place.get("StatefulSet", "litellm-postgres")["status"].get("readyReplicas"))
    found = info(place.name)
    assert found["problems"] == [] and "no pod of litellm-postgres is ready" in found["notes"][0]


def test_an_api_server_that_refuses_the_account_is_an_error(info: Info, kube: Kube) -> None:
    found = info.any("x", kubeconfig=None, host=kube.server, api_key="wrong", validate_certs=False)
    assert found.failed and "HTTP 401" in found["msg"] and "Check api_key" in found["msg"] and "wrong" not in str(found)
