# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows from what was read of a cluster."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import facts, rights

SCRAM = (
    "SCRAM-SHA-256$4096:t/hraDaf30L8xQST2uKJgg==$wiJgy9+uqaaZG2BibRYylNrHNZfs4ynq44bVAucbbgA="
    ":F+I9N0Q1zbOQMeDs9PTAFBmGSzVhlN2u0ckgwXInEoU="
)
MD5 = "md5d40130e21067b6148b0fd493fcbec99b"


@pytest.mark.parametrize("stored", [SCRAM, MD5])
def test_stored_passwords_of_a_real_server(stored):
    assert facts.verifies(stored, "pencil_user", "pencil") is True
    assert facts.verifies(stored, "pencil_user", "Pencil") is False


@pytest.mark.parametrize(("stored", "password"), [("plain", "pencil"), (SCRAM, "pencïl"), ("", "x")])
def test_what_cannot_be_compared(stored, password):
    assert facts.verifies(stored, "pencil_user", password) is None


def test_a_verifier_is_that_of_its_password_alone():
    verifier = facts.scram("second/password of a test?")
    assert facts.verifies(verifier, "x", "second/password of a test?") is True
    assert facts.verifies(verifier, "x", "another") is False


def storage(name, **annotations):
    return {"metadata": {"name": name, "annotations": annotations}}


DEFAULT = storage("slow", **{"storageclass.kubernetes.io/is-default-class": "true"})
OLDER = storage("older", **{"storageclass.beta.kubernetes.io/is-default-class": "true"})


@pytest.mark.parametrize(
    ("given", "provider", "classes", "name", "how"),
    [
        ("slow", "aws", [storage("gp3-csi"), DEFAULT], "slow", "given"),
        ("", "aws", [storage("gp3-csi"), DEFAULT], "gp3-csi", "by provider"),
        ("", "gcp", [storage("gp3-csi"), DEFAULT], "slow", "default"),
        ("", "baremetal", [storage("other"), storage("lvms-vg1"), DEFAULT], "lvms-vg1", "by provider"),
        ("", "baremetal", [storage("lvms-vg1"), storage("ocs-storagecluster")], "ocs-storagecluster", "by provider"),
        ("", "", [storage("x"), OLDER], "older", "default"),
        ("fast", "aws", [storage("gp3-csi")], "", ""),
        ("", "", [storage("x", **{"storageclass.kubernetes.io/is-default-class": "false"})], "", ""),
    ],
)
def test_storage_classes(given, provider, classes, name, how):
    chosen, problem = facts.storage_class(given, provider, classes)
    assert chosen == {"name": name, "how": how} and bool(problem) is not bool(name)
    if problem:
        assert all(one["metadata"]["name"] in problem for one in classes)


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("quay.io/x/backend:0.4.0", "0.4.0"),
        ("localhost:5000/backend", ""),
        ("quay.io/x/backend:0.4.0@sha256:abc", "0.4.0"),
        ("backend", ""),
    ],
)
def test_tags(image, tag):
    assert facts.tag_of(image) == tag


def test_hosts_by_the_service_behind():
    route = {"spec": {"host": "api.example.com", "to": {"name": "litellm"}}}
    path = {"path": "/api", "backend": {"service": {"name": "litellm-backend"}}}
    ingress = {"spec": {"rules": [{"host": "admin.example.com", "http": {"paths": [path]}}]}}
    foreign = {"spec": {"host": "x.example.com", "to": {"name": "other"}}}
    assert facts.hosts([route, ingress, foreign]) == {"api": "api.example.com", "admin": "admin.example.com"}


@pytest.mark.parametrize(
    ("rule", "has"),
    [
        ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, True),
        ({"verbs": ["create"], "apiGroups": ["apps"], "resources": ["deployments"]}, True),
        ({"verbs": ["create"], "apiGroups": [""], "resources": ["deployments"]}, False),
        ({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}, False),
        ({"verbs": ["create"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["a"]}, False),
    ],
)
def test_rules_that_give_a_right(rule, has):
    need = rights.Need("create", "apps", "deployments", "ns")
    assert rights.covered(need, [rule]) is has and need.sentence() == "create on deployments.apps in ns"


@pytest.mark.parametrize(("name", "has"), [("ours", True), ("theirs", False), ("", False)])
def test_a_right_to_one_object(name, has):
    need = rights.Need("get", "", "secrets", "ns", name)
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ours"]}
    assert rights.covered(need, [rule]) is has
    assert need.sentence() == f"get on secrets {name} in ns".replace("  ", " ")


def test_rights_that_the_rules_of_the_namespace_do_not_tell_are_asked_for_one_by_one():
    class Reviews:
        def __init__(self):
            self.asked = []

        def request(self, _method, path, body):
            if path.endswith("/selfsubjectrulesreviews"):
                assert body["spec"] == {"namespace": "ns"}
                rule = {"verbs": ["*"], "apiGroups": [""], "resources": ["pods", "nodes", "namespaces"]}
                return {"status": {"resourceRules": [rule]}}
            self.asked.append(body["spec"]["resourceAttributes"])
            return {"status": {"allowed": body["spec"]["resourceAttributes"].get("name") == "ours"}}

    named = rights.Need("get", "", "secrets", "ns", "ours")
    part = rights.Need("create", "", "pods/exec", "ns")
    elsewhere = rights.Need("list", "", "pods", "other")
    of_all = rights.Need("list", "", "nodes")
    told = rights.Need("list", "", "pods", "ns")
    client = Reviews()
    assert rights.missing(client, [told, named, part, elsewhere, of_all, part], "ns") == [part, elsewhere, of_all]
    assert client.asked == [
        {"verb": "get", "group": "", "resource": "secrets", "namespace": "ns", "name": "ours"},
        {"verb": "create", "group": "", "resource": "pods", "namespace": "ns", "subresource": "exec"},
        {"verb": "list", "group": "", "resource": "pods", "namespace": "other"},
        {"verb": "list", "group": "", "resource": "nodes", "namespace": ""},
    ]


def test_the_newer_form_of_discovery():
    def group(name, version, *kinds):
        resources = [{"responseKind": {"kind": kind}} for kind in kinds]
        return {"metadata": {"name": name} if name else {}, "versions": [{"version": version, "resources": resources}]}

    found = facts.api_versions({"items": [group("", "v1", "Pod"), group("policy", "v1", "PodDisruptionBudget")]})
    assert found == ["v1/Pod", "policy/v1/PodDisruptionBudget"]


@pytest.mark.parametrize(
    ("values", "layout"),
    [
        ({}, ""),
        ({"DATABASE_URL": "postgresql://u:p@h/one"}, "shared"),
        ({"DATABASE_URL": "postgresql://u:p@h/one", "LITELLM_DATABASE_URL": "postgresql://u:p@h/two"}, "split"),
        ({"database": "one", "litellm_database": "one"}, "shared"),
    ],
)
def test_layouts(values, layout):
    assert facts.layout(values)[0] == layout


def test_backups_are_newest_first_and_what_is_no_json_is_an_error():
    text = '[{"time": "2026-01-01"}, {"time": "2026-03-01"}]'
    assert [one["time"] for one in facts.backups_of({"data": {"backups": text}})] == ["2026-03-01", "2026-01-01"]
    assert facts.backups_of(None) == []
    with pytest.raises(ValueError):
        facts.backups_of({"data": {"backups": "nothing"}})


NOW = datetime(2026, 3, 21, 12, tzinfo=timezone.utc)
BOTH, KEYS = ("litellm", "litemaas"), ["master_key", "salt_key"]


def recorded(hour="11:00:00", databases=BOTH, **other):
    return {"time": f"2026-03-21T{hour}Z", "databases": list(databases), **other}


@pytest.mark.parametrize(
    ("backups", "words"),
    [
        ([recorded(keys=KEYS)], ""),
        # One that is enough among others.
        ([recorded("11:30:00", keys=[]), recorded("11:20:00", ["litellm"], keys=KEYS), recorded(keys=KEYS)], ""),
        ([recorded("12:04:00", keys=KEYS)], ""),
        ([], "younger than 24h (none is recorded)"),
        (
            [{"time": "2026-03-20T11:59:59Z", "databases": list(BOTH), "keys": KEYS}],
            "24h (the last is of 2026-03-20T11:59:5",
        ),
        ([recorded("13:00:00", keys=KEYS)], "younger than 24h"),
        (
            [{"time": "once", "databases": list(BOTH), "keys": KEYS}, {"databases": list(BOTH), "keys": KEYS}],
            "younger than 24h",
        ),
        ([recorded(databases=["litemaas"], keys=KEYS)], "the backup of 2026-03-21T11:00:00Z lacks database litellm"),
        # Each has a half.
        ([recorded(databases=["litemaas"], keys=KEYS), recorded(databases=["litellm"], keys=KEYS)], "lacks database"),
        ([recorded(keys=[])], "the backup of 2026-03-21T11:00:00Z has no salt key, and the one in Secret"),
        ([recorded(keys=["master_key"])], "has no salt key"),
        # Records of before keys were written down.
        ([recorded()], "has no salt key"),
        ([{"time": "2026-03-21T11:00:00Z", "keys": KEYS}], "lacks database litellm, litemaas"),
        ([recorded("11:30:00", ["litellm"], keys=KEYS), recorded(keys=[])], "of 2026-03-21T11:00:00Z has no salt key"),
    ],
)
def test_what_stands_in_for_what_is_removed(backups, words):
    found = facts.without_backup(backups, BOTH, "24h", NOW)
    assert words in found if words else found == ""


def test_without_a_salt_key_the_master_key_is_what_counts():
    backups = [recorded(databases=["litemaas"], keys=["master_key"])]
    assert facts.without_backup(backups, ["litemaas"], "24h", NOW, own_salt_key=False) == ""
    found = facts.without_backup([recorded(keys=[])], BOTH, "24h", NOW, own_salt_key=False)
    assert "has no master key" in found


def test_databases_that_are_not_known_are_in_no_backup():
    assert "is not known" in facts.without_backup([recorded(keys=KEYS)], [], "24h", NOW)


def test_ages_are_durations():
    old = [{"time": "2026-02-22T12:00:00Z", "databases": list(BOTH), "keys": KEYS}]
    assert facts.without_backup(old, BOTH, "4w", NOW) == ""
    assert "younger than 26d" in facts.without_backup(old, BOTH, "26d", NOW)
    for age in ("24", "1x", ""):
        with pytest.raises(ValueError, match="is not a duration"):
            facts.without_backup(old, BOTH, age, NOW)


@pytest.mark.parametrize(
    ("name", "system"), [("kube-system", True), ("openshift-monitoring", True), ("litemaas", False)]
)
def test_namespaces_of_the_cluster(name, system):
    assert bool(facts.SYSTEM.match(name)) is system


OURS = {"app.kubernetes.io/managed-by": "rhpds.litemaas", "rhpds.litemaas/namespace": "lab"}


@pytest.mark.parametrize(
    ("name", "labels", "uris", "own"),
    [
        ("other", OURS, [], True),
        ("lab", {**OURS, "rhpds.litemaas/namespace": "another"}, ["https://a.example.com/x"], False),
        ("lab", {}, ["https://a.example.com/api/auth/callback"], True),
        ("lab", {}, ["https://a.example.com/x", "https://shop.example.com/x"], False),
        ("other", {}, ["https://a.example.com/x"], False),
        ("lab", {}, [], False),
    ],
)
def test_whose_an_oauth_client_is(name, labels, uris, own):
    found = {"metadata": {"name": name, "labels": labels}, "redirectURIs": uris}
    assert facts.is_own_client(found, "lab", {"a.example.com"}) is own


def route(namespace, host, admitted=""):
    conditions = [{"type": "Admitted", "status": admitted}] if admitted else []
    status = {"ingress": [{"conditions": conditions}]} if admitted else {}
    return {"metadata": {"namespace": namespace, "name": "r"}, "spec": {"host": host}, "status": status}


@pytest.mark.parametrize(
    ("routes", "problems"),
    [
        ([route("other", "a", "True")], 1),
        ([route("other", "a")], 1),
        ([route("other", "a", "False")], 0),
        ([route("other", "b", "True"), route("lab", "a", "True")], 0),
        ([route("other", "a", "True"), route("lab", "a", "True")], 0),
        ([route("other", "a", "True"), route("lab", "a", "False")], 1),
    ],
)
def test_names_that_another_namespace_has(routes, problems):
    found = facts.taken_hosts(routes, {"a"}, "lab")
    assert len(found) == problems and all("r in other" in one for one in found)
