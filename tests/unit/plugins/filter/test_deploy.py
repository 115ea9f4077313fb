# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deploy plans: what of others it keeps, what it leaves out, what it refuses, how it compares versions."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.filter.applied_objects import applied_objects
from ansible_collections.rhpds.litemaas.plugins.filter.connection_sum import connection_sum
from ansible_collections.rhpds.litemaas.plugins.filter.deploy_plan import deploy_plan
from ansible_collections.rhpds.litemaas.plugins.filter.page_substitutions import page_substitutions
from ansible_collections.rhpds.litemaas.plugins.filter.removal_obstacle import removal_obstacle
from ansible_collections.rhpds.litemaas.plugins.filter.tag_change import tag_change
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.keep import APPLIED


def deployment(replicas: int = 3, sync: str | None = None, **annotations: str) -> dict[str, Any]:
    env = [] if sync is None else [{"name": "LITELLM_AUTO_SYNC", "value": sync}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "litellm", "annotations": dict(annotations)},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "litellm"}},
            "template": {"metadata": {"labels": {"app": "litellm"}}, "spec": {"containers": [{"env": env}]}},
        },
    }


def planned(
    wanted: dict[str, Any], live: dict[str, Any] | None = None, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    there = {} if live is None else {f"{live['kind']}/{live['metadata']['name']}": live}
    plan = deploy_plan({"one": [wanted]}, there, **options)
    return plan["steps"]["one"]["definitions"][0], plan["kept"]


def applied(replicas: int, sync: str | None = None) -> dict[str, str]:
    return {APPLIED: json.dumps({"replicas": replicas, "env": {} if sync is None else {"LITELLM_AUTO_SYNC": sync}})}


@pytest.mark.parametrize(
    ("wanted", "live", "last", "result"),
    [
        (3, 3, 3, 3),
        (3, 5, 3, 5),  # somebody scaled it
        (4, 5, 3, 4),  # and we want something else since
        (4, 3, 3, 4),
        (3, 5, None, 5),  # made by something else: whoever set it meant it
    ],
)
def test_replicas(wanted: int, live: int, last: int | None, result: int) -> None:
    there = deployment(live, **({} if last is None else applied(last)))
    definition, kept = planned(deployment(wanted), there)
    assert definition["spec"]["replicas"] == result
    said = f"litellm: {result} replicas, set by somebody else (wanted {wanted})"
    assert kept == ([said] if result != wanted else [])
    # What is remembered is the wish: the next run can tell.
    assert json.loads(definition["metadata"]["annotations"][APPLIED])["replicas"] == wanted
    assert planned(deployment(wanted), there, keep_changes=False)[0]["spec"]["replicas"] == wanted


@pytest.mark.parametrize(
    ("wanted", "live", "last", "result"),
    [("false", "true", "false", "true"), ("true", "false", "false", "true"), ("false", "true", None, "true")],
)
def test_switches(wanted: str, live: str, last: str | None, result: str) -> None:
    there = deployment(3, live, **({} if last is None else applied(3, last)))
    definition, kept = planned(deployment(3, wanted), there)
    assert definition["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == result
    said = f"litellm: LITELLM_AUTO_SYNC={result}, set by somebody else (wanted {wanted})"
    assert kept == ([said] if result != wanted else [])
    taken, kept = planned(deployment(3, wanted), there, keep_changes=False)
    assert taken["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == wanted and not kept


def test_what_an_autoscaler_set_is_declared_again() -> None:
    there = deployment(6, **applied(3))
    definition, kept = planned(deployment(4), there, hpas=["litellm"])
    assert definition["spec"]["replicas"] == 6 and kept == ["litellm: 6 replicas, an autoscaler's (wanted 4)"]
    assert planned(deployment(4), None, hpas=["litellm"])[0]["spec"]["replicas"] == 4


def test_nothing_given_is_changed() -> None:
    wanted, there = deployment(3), deployment(5, **applied(3))
    before = copy.deepcopy((wanted, there))
    planned(wanted, there)
    assert (wanted, there) == before


def statefulset(claim: str, mount: str, folder: str | None, **spec: Any) -> dict[str, Any]:
    env = [{"name": "A", "value": "1"}] + ([{"name": "PGDATA", "value": folder}] if folder else [])
    container = {"name": "postgres", "env": env, "volumeMounts": [{"name": claim, "mountPath": mount}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "litellm-postgres"},
        "spec": {
            "replicas": 1,
            "serviceName": "litellm-postgres",
            "selector": {"matchLabels": {"app": "litellm-postgres"}},
            "template": {"metadata": {"labels": {"app": "litellm-postgres"}}, "spec": {"containers": [container]}},
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": claim},
                    "spec": {"resources": {"requests": {"storage": spec.pop("size", "10Gi")}}},
                }
            ],
            **spec,
        },
    }


def test_the_data_stays_where_it_is() -> None:
    there = statefulset("data", "/data", "/data/old", size="5Gi", podManagementPolicy="Parallel")
    there["spec"]["selector"]["matchLabels"]["component"] = "database"
    definition, kept = planned(statefulset("postgres-storage", "/var/lib", "/var/lib/pgdata"), there)
    spec = definition["spec"]
    assert spec["volumeClaimTemplates"] == there["spec"]["volumeClaimTemplates"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["selector"] == there["spec"]["selector"]
    assert spec["template"]["metadata"]["labels"]["component"] == "database"
    container = spec["template"]["spec"]["containers"][0]
    assert container["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]
    assert {"name": "PGDATA", "value": "/data/old"} in container["env"] and len(container["env"]) == 2
    assert "stays 5Gi (wanted 10Gi)" in kept[0] and "data-litellm-postgres-0" in kept[0]
    # Without PGDATA there, none here: the image's own folder has the data.
    there["spec"]["template"]["spec"]["containers"][0]["env"] = []
    container = planned(statefulset("data", "/data", "/data/new"), there)[0]["spec"]["template"]["spec"]["containers"][
        0
    ]
    assert "PGDATA" not in {entry["name"] for entry in container["env"]}
    # What it was made without it doesn't get: no API server would take it.
    del there["spec"]["podManagementPolicy"]
    wanted = statefulset("data", "/data", None, podManagementPolicy="Parallel")
    assert "podManagementPolicy" not in planned(wanted, there)[0]["spec"]


def test_a_job_that_is_there_is_waited_for_and_not_applied() -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "m"}, "spec": {}}
    plan = deploy_plan({"migration": [job]}, {}, jobs=["Job/m"])
    assert plan["steps"]["migration"] == {"definitions": [], "workloads": ["Job/m"]}
    assert deploy_plan({"migration": [job]}, {})["steps"]["migration"]["definitions"] == [job]


def test_what_the_cluster_does_not_know_is_left_out() -> None:
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "litellm"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "litellm"}},
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "litellm"}, "spec": {}}
    there = {"Deployment/litellm": deployment(6, **applied(3))}
    steps = {"one": [deployment(4), service, hpa]}
    plan = deploy_plan(steps, there, api_versions=["apps/v1/Deployment", "v1/Service"])
    assert plan["left_out"] == ["HorizontalPodAutoscaler/litellm (autoscaling/v2)"]
    assert plan["names"] == ["Deployment/litellm", "Service/litellm"]
    # An autoscaler that isn't there scales nothing.
    assert plan["steps"]["one"]["definitions"][0]["spec"]["replicas"] == 4
    assert deploy_plan(steps, there)["steps"]["one"]["definitions"][0]["spec"]["replicas"] == 6


def test_connections() -> None:
    sizes = {
        "litellm_replicas": 3,
        "litellm_workers": 2,
        "litellm_limit": 10,
        "backend_replicas": 3,
        "backend_limit": 20,
        "reserved": 20,
        "maximum": 180,
    }
    found = connection_sum(sizes)
    assert found["sum"] == 4 * 2 * 10 + 4 * 20 + 20 == 180 and found["fits"]
    assert not connection_sum({**sizes, "reserved": 21})["fits"]
    assert connection_sum({**sizes, "backend_replicas": 0})["sum"] == 100
    for number in ("= 80", "together 180", "max_connections is 180"):
        assert number in found["text"]


@pytest.mark.parametrize(
    ("image", "tag", "change"),
    [
        ("", "main-v1.81.0-stable", "none"),
        ("q/l:main-v1.81.0-stable", "main-v1.81.0-stable", "none"),
        ("q/l:latest", "latest", "none"),
        ("q/l:main-v1.81.0-stable", "main-v1.81.0-stable-custom", "upgrade"),
        ("q/l:main-v1.81.0-stable", "main-v1.100.0", "upgrade"),
        ("q/l:v1.81.0", "v1.80.9", "downgrade"),
        ("q/l:v1.81.0", "v1.81.0.rc.1", "downgrade"),
        ("q/l:v1.81.0-rc.1", "v1.81.0", "upgrade"),
        ("q/l:v1.81.0", "latest", "unknown"),
        ("q/l:main", "v1.81.0", "unknown"),
        ("host:5000/l", "v1.81.0", "unknown"),
        ("q/l:v1.81.0@sha256:00", "v1.82.0", "unknown"),
    ],
)
def test_tags(image: str, tag: str, change: str) -> None:
    assert tag_change(image, tag) == change


@pytest.mark.parametrize("text", ['a "quote"', "it's", "back\\slash", "two\nlines", "<b>", "${x}", "`x`"])
def test_texts_that_a_script_cannot_hold(text: str) -> None:
    assert page_substitutions({"old": text})["problems"]
    assert page_substitutions({text: "new"})["problems"]
    assert page_substitutions({}, text)["problems"]
    assert not page_substitutions({"a.b*c|[d]": "e & f | g"}, "h")["problems"]


def test_results() -> None:
    def one(name: str, changed: bool) -> dict[str, Any]:
        return {"changed": changed, "result": {"kind": "Service", "metadata": {"name": name}}}

    several = {"changed": True, "result": {"results": [one("a", True), one("b", True), one("c", False)]}}
    found = applied_objects([several, one("d", True), {"skipped": True}], before=["Service/b"])
    assert found == {"created": ["Service/a", "Service/d"], "changed": ["Service/b"], "unchanged": 1}


def test_what_stands_in_the_way_of_a_removal():
    backup = {"time": datetime.now(timezone.utc).isoformat(), "databases": ["a", "b"], "keys": ["salt_key"]}
    live = {"databases": {"litemaas": "a", "litellm": "b"}, "salt_key": True}
    info = {"namespace": {"name": "lab"}, "volumes": ["data"], "deployment": live, "backups": [backup]}
    assert removal_obstacle(info, "24h") == ""
    keyless = removal_obstacle({**info, "backups": [{**backup, "keys": []}]}, "24h")
    assert "has no salt key" in keyless and "-e namespace=lab -e vault_password_file=" in keyless
    assert "lacks database b" in removal_obstacle({**info, "backups": [{**backup, "databases": ["a"]}]}, "24h")
    # What is outside stays.
    assert removal_obstacle({**info, "volumes": [], "backups": []}, "24h") == ""
    assert removal_obstacle(info, "24").startswith("ocp4_workload_litemaas_backup_max_age: '24' is not a duration")
