# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of Routes, Ingresses and DSNs is read as an address."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database

ADMITTED = {"ingress": [{"host": "a.example.com", "conditions": [{"type": "Admitted", "status": "True"}]}]}


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("db", ("db", "ns1")),
        ("db.ns1", ("db", "ns1")),
        ("db.example", None),
        ("db.other.svc", ("db", "other")),
        ("db.other.svc.cluster.local.", ("db", "other")),
        ("db.example.com", None),
        ("10.0.0.1", None),
        ("/var/run/postgresql", None),
        ("", None),
    ],
)
def test_which_hosts_may_be_services(host: str, found: tuple[str, str] | None) -> None:
    assert discover.service_of(host, "ns1") == found


def route(name: str = "one", annotations: dict[str, str] | None = None, status: Any = None, **spec: Any) -> Any:
    meta = {"name": name, "namespace": "ns1", "annotations": annotations or {}}
    to = {"kind": "Service", "name": "litellm"}
    return discover._of_route(
        {
            "metadata": meta,
            "spec": {"host": "a.example.com", "to": to, **spec},
            "status": ADMITTED if status is None else status,
        },
        discover.SERVICE,
    )


def test_the_best_route_has_no_path_is_admitted_and_has_tls() -> None:
    (plain,) = route()
    (secure,) = route(tls={"termination": "edge"})
    (below,) = route(path="/v1", tls={})
    (unknown,) = route(status={}, tls={"termination": "edge"})
    assert sorted([below, unknown, plain, secure]) == [secure, plain, unknown, below]
    assert secure.url == "https://a.example.com" and plain.url == "http://a.example.com"
    assert "no router has admitted" in unknown.source
    rewrite = {"haproxy.router.openshift.io/rewrite-target": "/"}
    (rewritten,) = route(path="/litellm/", annotations=rewrite)
    assert rewritten.url == "http://a.example.com/litellm" and not rewritten.below
    assert route(to={"kind": "Service", "name": "litellm-frontend"}) == []
    assert route(host="", status={}) == []


def ingress(rule: dict[str, Any], **fields: Any) -> list[discover.Address]:
    spec = {"rules": [rule], **fields}
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 8080, "protocol": "TCP"}]}]}}
    ingress = {"metadata": {"name": "one", "namespace": "ns1"}, "spec": spec, "status": status}
    return discover._of_ingress(ingress, discover.SERVICE)


def test_an_ingress_says_host_and_tls() -> None:
    paths = [{"path": "/", "backend": {"service": {"name": "litellm", "port": {"number": 4000}}}}]
    (plain,) = ingress({"host": "a.example.com", "http": {"paths": paths}})
    assert plain.url == "http://a.example.com"
    (secure,) = ingress({"host": "a.example.com", "http": {"paths": paths}}, tls=[{"hosts": ["a.example.com"]}])
    assert secure.url == "https://a.example.com"
    (other,) = ingress({"host": "a.example.com", "http": {"paths": paths}}, tls=[{"hosts": ["b.example.com"]}])
    assert other.url == "http://a.example.com"
    (nowhere,) = ingress({"http": {"paths": paths}})
    assert nowhere.url == "http://192.0.2.1:8080"
    (below,) = ingress({"host": "a.example.com", "http": {"paths": [{**paths[0], "path": "/api"}]}})
    assert below.below


def test_what_only_another_library_knows_is_left_out_of_a_dsn() -> None:
    dsn = "postgresql://u:p%40ss@db:5432/one?sslmode=disable&connection_limit=10&uselibpqcompat=true&schema=mine"
    parts = database.parts_of(dsn, "litemaas_dsn", foreign=True)
    assert parts == {
        "user": "u",
        "password": "p@ss",
        "host": "db",
        "port": "5432",
        "dbname": "one",
        "sslmode": "disable",
        "options": "-csearch_path=mine",
    }
    with pytest.raises(database.DatabaseError, match="not a DSN"):
        database.parts_of(dsn, "litemaas_dsn")
    with pytest.raises(database.DatabaseError) as failure:
        database.parts_of("postgresql://u:p@ss/word@db/one?connection_limit=1", "litemaas_dsn", foreign=True)
    assert "word" not in str(failure.value).replace("password", "")


class Answers:
    """An API server that has these objects; None is forbidden."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.objects = objects

    def find(self, path: str, rights: str = "", **query: str) -> Any:
        try:
            return self.get(path, rights, **query)
        except ClusterError as failure:
            if failure.status == 404:
                return None
            raise

    def get(self, path: str, _rights: str = "", **_query: str) -> Any:
        found = self.objects.get(path, 404)
        if found == 404:
            raise ClusterError(f"GET {path}", "HTTP 404: not found", "Check name and namespace", 404)
        if found is None:
            raise ClusterError(f"GET {path}", "HTTP 403: forbidden", "The account needs it there", 403)
        return found


def place(objects: dict[str, Any]) -> discover.Namespace:
    found = discover.Namespace(Cluster(), "ns1")
    found.__dict__["_rest"] = Answers(objects)
    return found


def secret(**values: Any) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(json.dumps(value).encode()).decode() for key, value in values.items()}}


def test_projects_are_those_of_the_keys_that_the_pods_have() -> None:
    names = {"/etc/one/": "one", "/etc/two/key.json": "two", "/etc/three": "three", "/tmp": ""}
    volumes = [{"name": f"v{at}", "secret": {"secretName": name}} for at, name in enumerate(names.values()) if name]
    mounted = [{"name": f"v{at}", "mountPath": path} for at, path in enumerate(names)]
    mounted[1]["subPath"] = "key.json"
    pod = {"containers": [{"name": "litellm", "volumeMounts": mounted}], "volumes": volumes}
    deployment = {"metadata": {"name": "litellm"}, "spec": {"template": {"spec": pod}}}
    key = {"type": "service_account", "project_id": "p1", "private_key": "secret"}
    base = "/api/v1/namespaces/ns1/secrets/"
    objects = {
        "/api/v1/namespaces/ns1": {},
        "/apis/apps/v1/namespaces/ns1/deployments/litellm": deployment,
        f"{base}one": secret(**{"key.json": key, "other": {"project_id": "no key"}, "list": [1]}),
        f"{base}two": secret(**{"key.json": {**key, "project_id": "p2"}, "beside.json": key}),
        f"{base}three": None,
    }
    found = place(objects)
    assert found.vertex_projects() == {"/etc/one/key.json": "p1", "/etc/two/key.json": "p2"}
    said = found.sources["vertex_credentials_projects"]
    assert said.startswith("Secrets of Deployment ns1/litellm; not read: ") and "three" in said and "403" in said
    for nothing in ({}, {"/apis/apps/v1/namespaces/ns1/deployments/litellm": None}):
        found = place(nothing)
        assert found.vertex_projects() == {} and found.sources["vertex_credentials_projects"]


def test_a_namespace_that_is_not_there_is_no_matter_of_rights() -> None:
    master = "/api/v1/namespaces/ns1/secrets/litellm-secret"
    for objects in ({}, {master: None}):
        for find in (place(objects).master_key, place(objects).litellm_url):
            with pytest.raises(ClusterError, match="there is no such namespace") as failure:
                find()
            assert "rights" not in str(failure.value) and "403" not in str(failure.value)
    exists: dict[str, Any] = {"/api/v1/namespaces/ns1": {}}
    with pytest.raises(ClusterError, match="HTTP 403"):
        place({**exists, master: None}).master_key()
    with pytest.raises(ClusterError, match="there is none"):
        place(exists).master_key()
    with pytest.raises(ClusterError, match="no Route or Ingress leads to Service litellm"):
        place(exists).litellm_url()
    # Nobody knows.
    with pytest.raises(ClusterError, match="HTTP 403"):
        place({"/api/v1/namespaces/ns1": None, master: None}).master_key()
