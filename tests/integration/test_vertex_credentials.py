# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of service accounts in a real API server's Deployment, with real rollouts.

The node is a fake: what its pods have of a mounted Secret is written by it, and commands in them run on this machine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils import vertex
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import vertex_credentials
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.vertexlab import AI, CLAUDE, Lab, examples, opened
from ansible_collections.rhpds.litemaas.tests.unit.plugins.module_utils.google import LOCAL, Google, key_file


@pytest.fixture
def lab(runner: harness.Runner, prefix: str, tmp_path: Path) -> Iterator[Lab]:
    with opened(runner, prefix, tmp_path) as found:
        yield found


def both(lab: Lab, **other: Any) -> dict[str, Any]:
    """The lab's two keys, as options."""
    ai, claude = key_file("rhdp-infra"), key_file("itpc-gcp-product-all-claude")
    return {
        "credentials": [
            {
                "secret": "vertex-ai-sa-key",
                "path": AI,
                "volume": "vertex-sa-key",
                "src": lab.file("ai.json", ai),
                "expected_project": "rhdp-infra",
            },
            {"secret": "vertex-claude-sa-key", "path": CLAUDE, "content": claude, "fallback": True, **other},
        ]
    }


def test_both_keys_come_and_stay_and_are_in_every_pod(lab: Lab) -> None:
    options = both(lab)
    foreseen = lab.run(check=True, **options)
    assert foreseen.changed and foreseen["summary"]["created"] == 2, foreseen["msg"]
    assert lab.mounts() == {}
    assert lab.rest.find(lab.path("secrets", "vertex-ai-sa-key")) is None

    made = lab.run(diff=True, **options)
    assert made.changed, made["msg"]
    assert made["summary"]["created"] == 2
    assert made["projects"] == {AI: "rhdp-infra", CLAUDE: "itpc-gcp-product-all-claude"}
    assert [len(item["verified_pods"]) for item in made["results"]] == [2, 2]
    assert made["rollout"]["msg"].startswith("litellm 2/2 ready")
    folders = {str(Path(AI).parent): "vertex-ai-sa-key", str(Path(CLAUDE).parent): "vertex-claude-sa-key"}
    assert lab.mounts() == folders
    template = lab.template()
    env = {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": CLAUDE}
    assert template["spec"]["containers"][0]["env"] == [env]
    assert {one["name"] for one in template["spec"]["volumes"]} == {"vertex-sa-key", "vertex-claude-sa-key"}
    lab.assert_hidden(json.dumps(made))
    assert made["invocation"]["module_args"]["credentials"][1]["content"] == "hidden"

    revision = lab.revision()
    again = lab.run(**options)
    assert not again.changed, again["results"]
    assert [len(item["verified_pods"]) for item in again["results"]] == [2, 2]
    assert not lab.run(check=True, **options).changed
    assert lab.revision() == revision


def test_one_key_is_rotated_and_the_other_stays_mounted(lab: Lab) -> None:
    assert lab.run(**both(lab)).changed
    before, mounts = lab.revision(), lab.mounts()
    fresh = key_file("rhdp-infra")
    one = {"secret": "vertex-ai-sa-key", "src": lab.file("fresh.json", fresh)}
    result = lab.run(**one)
    assert result["results"][0]["action"] == "rotate", result["msg"]
    assert result["results"][0]["path"] == AI
    assert len(result["results"][0]["verified_pods"]) == 2
    assert json.loads(lab.secret("vertex-ai-sa-key")["key.json"]) == fresh
    assert lab.mounts() == mounts
    assert lab.revision() == str(int(before) + 1)
    laid_out_otherwise = lab.file("fresh.json", json.dumps(fresh, indent=7, sort_keys=True))
    assert not lab.run(secret="vertex-ai-sa-key", src=laid_out_otherwise).changed


def test_others_of_the_deployment_and_of_the_secret_stay(lab: Lab) -> None:
    lab.make_secret("vertex-ai-sa-key", **{"key.json": json.dumps(key_file("rhdp-infra")), "note": "ours"})
    other = {"name": "shared", "mountPath": "/shared", "readOnly": True}
    volume = {"name": "shared", "secret": {"secretName": "vertex-ai-sa-key"}}
    container = {"name": "litellm", "volumeMounts": [other], "env": [{"name": "A", "value": "1"}]}
    lab.patch({"spec": {"template": {"spec": {"volumes": [volume], "containers": [container]}}}})
    fresh = key_file("rhdp-infra")
    args = {"secret": "vertex-ai-sa-key", "path": AI, "volume": "vertex-sa-key"}
    made = lab.run(**args, content=fresh)
    assert made["results"][0]["action"] == "rotate", made["msg"]
    assert lab.secret("vertex-ai-sa-key") == {"key.json": lab.secret("vertex-ai-sa-key")["key.json"], "note": "ours"}
    assert set(lab.mounts()) == {"/shared", str(Path(AI).parent)}

    gone = lab.run(**args, state="absent")
    assert gone["results"][0]["action"] == "delete", gone["msg"]
    assert "made by somebody else" in gone["results"][0]["msg"]
    assert set(lab.mounts()) == {"/shared"}
    assert "note" in lab.secret("vertex-ai-sa-key")
    assert lab.template()["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    assert not lab.run(**args, state="absent").changed


def test_a_mount_made_with_oc_is_taken_over_and_goes_completely(lab: Lab) -> None:
    lab.make_secret("vertex-ai-sa-key", **{"key.json": json.dumps(key_file("rhdp-infra"))})
    volume = {"name": "made-by-hand", "secret": {"secretName": "vertex-ai-sa-key"}}
    mount = {"name": "made-by-hand", "mountPath": str(Path(AI).parent)}
    container = {"name": "litellm", "volumeMounts": [mount]}
    lab.patch({"spec": {"template": {"spec": {"volumes": [volume], "containers": [container]}}}}, manager="oc")
    taken = lab.run(secret="vertex-ai-sa-key", path=AI, volume="vertex-sa-key")
    assert taken["results"][0]["action"] == "update", taken["msg"]
    assert taken["results"][0]["volume"] == "made-by-hand"
    assert {"writable", "read-only"} <= {str(one[side]) for one in taken["results"][0]["changes"] for side in one}
    assert lab.mounts() == {str(Path(AI).parent): "vertex-ai-sa-key"}
    assert lab.run(secret="vertex-ai-sa-key", state="absent").changed
    assert lab.mounts() == {}
    assert "volumes" not in lab.template()["spec"]


def test_a_deployment_applied_anew_keeps_the_mounts(lab: Lab) -> None:
    lab.run(**both(lab))
    mounts = lab.mounts()
    lab.apply("another")
    assert lab.template()["spec"]["containers"][0]["image"].endswith(":another")
    assert lab.mounts() == mounts


def test_a_key_goes_with_mount_secret_and_fallback_unless_models_use_it(lab: Lab) -> None:
    lab.run(**both(lab))
    used = {"used_paths": {CLAUDE: ["claude-sonnet-4-6", "gemini-2.5-pro"]}}
    gone = {"secret": "vertex-claude-sa-key", "state": "absent"}
    refused = lab.run(**gone, **used)
    assert refused.failed
    assert "claude-sonnet-4-6, gemini-2.5-pro" in refused["msg"] and CLAUDE in refused["msg"]
    assert len(lab.mounts()) == 2

    assert lab.run(**gone, check=True).changed
    assert len(lab.mounts()) == 2
    assert lab.run(**gone, **used, force=True)["summary"]["deleted"] == 1
    assert lab.mounts() == {str(Path(AI).parent): "vertex-ai-sa-key"}
    assert "env" not in lab.template()["spec"]["containers"][0]
    assert list(lab.template()["metadata"]["annotations"]) == ["vertex.rhpds.litemaas/vertex-sa-key"]
    assert lab.rest.find(lab.path("secrets", "vertex-claude-sa-key")) is None
    # What isn't there needs no guard.
    twice = lab.run(**gone, **used, path=CLAUDE)
    assert not twice.failed and not twice.changed, twice["msg"]


def test_runs_beside_each_other_keep_each_others_mounts(lab: Lab) -> None:
    def options(number: int) -> dict[str, Any]:
        one = {"secret": f"key-{number}", "path": f"/etc/vertex-{number}/key.json"}
        return {**one, "src": lab.file(f"{number}.json", key_file("rhdp-infra"))}

    wanted = [options(number) for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda one: lab.run(**one, verify=False), wanted))
    assert [(result.changed, result.failed) for result in results] == [(True, False)] * 3, results
    assert lab.mounts() == {f"/etc/vertex-{number}": f"key-{number}" for number in range(3)}
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda one: lab.run(secret=one["secret"], state="absent"), wanted))
    assert [(result.changed, result.failed) for result in results] == [(True, False)] * 3, results
    assert lab.mounts() == {}


def test_what_another_run_mounts_between_reading_and_writing_stays(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(kubeconfig=lab.environment["K8S_AUTH_KUBECONFIG"])
    settings = vertex_credentials.Settings(lab.namespace, probe="skip", wait=False, verify=False)

    def run(number: int) -> vertex_credentials.Credentials:
        one = {"secret": f"key-{number}", "path": f"/etc/vertex-{number}/key.json", "content": key_file("rhdp-infra")}
        item = vertex_credentials.credential_from_options(one)
        return vertex_credentials.Credentials(cluster, settings, [item])

    slow, quick = run(1), run(2)
    write = slow._write_deployment

    def late(*, dry_run: bool = False) -> bool:
        if not dry_run:
            assert quick.converge(check_mode=False)["changed"]
        return write(dry_run=dry_run)

    monkeypatch.setattr(slow, "_write_deployment", late)
    assert slow.converge(check_mode=False)["changed"]
    assert lab.mounts() == {"/etc/vertex-1": "key-1", "/etc/vertex-2": "key-2"}


@pytest.mark.parametrize("volume", ["vertex-sa-key", "another"])
def test_another_path_moves_the_mount_unless_models_use_the_old_one(lab: Lab, volume: str) -> None:
    one = {"secret": "vertex-ai-sa-key", "content": key_file("rhdp-infra"), "verify": False}
    assert lab.run(**one, path=AI, volume="vertex-sa-key", fallback=True).changed
    # Another manager has the mount too, and would keep it.
    mount = {"name": "vertex-sa-key", "mountPath": str(Path(AI).parent), "readOnly": True}
    volumes = [{"name": "vertex-sa-key", "secret": {"secretName": "vertex-ai-sa-key"}}]
    spec = {"containers": [{"name": "litellm", "volumeMounts": [mount]}], "volumes": volumes}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": spec}}}
    query = {"fieldManager": "oc", "force": "true"}
    kind = "application/apply-patch+yaml"
    lab.rest.request("PATCH", lab.path("deployments", "litellm"), body, query=query, content_type=kind)

    new = {**one, "path": "/etc/new/key.json", "volume": volume, "used_paths": {AI: ["live-model"]}}
    for check in (True, False):
        refused = lab.run(**new, check=check)
        assert refused.failed and f"{AI} is still used by live-model" in refused["msg"], refused["msg"]
    assert lab.mounts() == {str(Path(AI).parent): "vertex-ai-sa-key"}

    foreseen = lab.run(**new, force=True, check=True)["results"][0]["changes"]
    moved = lab.run(**new, force=True)
    assert not moved.failed, moved["msg"]
    assert moved["results"][0]["changes"] == foreseen
    assert any(str(Path(AI).parent) in str(change) and change["after"] is None for change in foreseen), foreseen
    assert lab.mounts() == {"/etc/new": "vertex-ai-sa-key"}
    template = lab.template()
    assert [found["name"] for found in template["spec"]["volumes"]] == [volume]
    assert list(template["metadata"]["annotations"]) == [f"vertex.rhpds.litemaas/{volume}"]
    assert template["spec"]["containers"][0]["env"][0]["value"] == "/etc/new/key.json"
    assert not lab.run(**new).changed


def test_the_fallback_comes_and_goes_by_itself(lab: Lab) -> None:
    one = {"secret": "vertex-ai-sa-key", "path": AI, "content": key_file("rhdp-infra")}
    lab.run(**one)
    assert "env" not in lab.template()["spec"]["containers"][0]
    assert lab.run(**one, fallback=True).changed
    assert lab.template()["spec"]["containers"][0]["env"][0]["value"] == AI
    assert not lab.run(**one).changed
    assert not lab.run(**one, fallback=True).changed
    assert lab.run(**one, fallback=False).changed
    assert "env" not in lab.template()["spec"]["containers"][0]
    assert not lab.run(**one, fallback=False).changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"content": {"type": "service_account"}},
            "the key project_id is missing; client_email is missing; private_key",
        ),
        ({"content": "{"}, "the key is no JSON"),
        ({"content": None}, "there is no Secret vertex-claude-sa-key in"),
        ({"expected_project": "rhdp-infra"}, "is of project 'itpc-gcp-product-all-claude', not of 'rhdp-infra'"),
        ({"expected_email": "a@b.iam.gserviceaccount.com"}, "not of 'a@b.iam.gserviceaccount.com'"),
        ({"content": None, "src": "/does/not/exist.json"}, "src /does/not/exist.json can't be read: No such file"),
        ({"src": "/etc/hosts"}, "src and content exclude each other"),
        ({"path": AI}, f"path {AI} is that of Secret vertex-ai-sa-key too"),
        ({"volume": "vertex-sa-key"}, "volume vertex-sa-key is that of Secret vertex-ai-sa-key too"),
        ({"secret": "vertex-ai-sa-key"}, "this Secret stands in the list more than once"),
        ({"path": "/etc/vertex/other.json"}, "has to be an absolute one that ends in /key.json"),
        ({"path": "/key.json"}, "would mount the Secret over /, and hide"),
        ({"path": None}, "path is missing"),
    ],
)
def test_one_bad_item_keeps_all_from_being_written(lab: Lab, change: dict[str, Any], words: str) -> None:
    for check in (True, False):
        result = lab.run(**both(lab, **change), check=check)
        assert result.failed
        assert words in result["msg"]
        assert not result["changed"]
    assert lab.mounts() == {}
    assert lab.rest.find(lab.path("secrets", "vertex-ai-sa-key")) is None


def test_a_place_that_is_taken_is_refused(lab: Lab) -> None:
    lab.make_secret("other", **{"key.json": "{}"})
    volume = {"name": "other", "secret": {"secretName": "other"}}
    container = {"name": "litellm", "volumeMounts": [{"name": "other", "mountPath": str(Path(AI).parent)}]}
    lab.patch({"spec": {"template": {"spec": {"volumes": [volume], "containers": [container]}}}})
    one = {"secret": "vertex-ai-sa-key", "content": key_file("rhdp-infra")}
    result = lab.run(**one, path=AI)
    assert "is mounted from Secret other already (volume other)" in result["msg"]
    result = lab.run(**one, path=CLAUDE, volume="other")
    assert "volume other of Deployment litellm is of Secret other" in result["msg"]
    result = lab.run(**one, path=CLAUDE, container="proxy")
    assert "has no container 'proxy' (litellm)" in result["msg"]
    assert lab.rest.find(lab.path("secrets", "vertex-ai-sa-key")) is None


def test_without_a_deployment_nothing_is_written(lab: Lab) -> None:
    one = {"secret": "vertex-ai-sa-key", "path": AI, "content": key_file("rhdp-infra"), "deployment": "proxy"}
    foreseen = lab.run(**one, check=True)
    assert foreseen.changed
    assert "isn't there yet" in foreseen["results"][0]["msg"]
    assert "A real run is refused until Deployment proxy is there" in foreseen["msg"]
    result = lab.run(**one)
    assert "it isn't there" in result["msg"] and "Nothing was written" in result["msg"]
    assert lab.rest.find(lab.path("secrets", "vertex-ai-sa-key")) is None


def test_a_pod_with_another_file_is_named(lab: Lab) -> None:
    one = {"secret": "vertex-ai-sa-key", "path": AI, "content": key_file("rhdp-infra")}
    assert not lab.run(**one).failed
    # Another one mounts a file of his own over it, in a way that only the pod shows.
    spec = lab.template()["spec"]
    assert spec["volumes"][0]["name"] == "vertex-ai-sa-key"
    items = [{"key": "other", "path": "key.json"}]
    patch = {"data": {"other": base64.b64encode(b"no key").decode()}}
    kind = "application/merge-patch+json"
    lab.rest.request("PATCH", lab.path("secrets", "vertex-ai-sa-key"), patch, content_type=kind)
    volume = {"name": "vertex-ai-sa-key", "secret": {"secretName": "vertex-ai-sa-key", "items": items}}
    lab.patch({"spec": {"template": {"spec": {"volumes": [volume]}}}})
    result = lab.run(**one, wait_timeout=10)
    assert result.failed
    assert "pod litellm-" in result["msg"] and f"{AI} has another content" in result["msg"]


def test_google_is_asked_before_anything_is_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: a module that is started sends signed requests to Google alone."""
    monkeypatch.setattr(vertex, "TOKEN_URIS", LOCAL)
    cluster = Cluster(kubeconfig=lab.environment["K8S_AUTH_KUBECONFIG"])

    def run(probe: str = "require") -> dict[str, Any]:
        one = {"secret": "vertex-ai-sa-key", "path": AI, "content": key}
        settings = vertex_credentials.Settings(lab.namespace, probe=probe, iam_endpoint=google.url, wait_timeout=60)
        item = vertex_credentials.credential_from_options(one)
        return vertex_credentials.Credentials(cluster, settings, [item]).converge(check_mode=False)

    with Google() as google:
        key = google.account("rhdp-infra")
        elsewhere = lab.run(secret="vertex-ai-sa-key", path=AI, content=key, iam_endpoint=google.url, probe="require")
        assert elsewhere.failed and "is not Google's (host 127.0.0.1)" in elsewhere["msg"]
        assert google.asked == []
        refused = run()
        assert refused["failed"]
        assert "roles/aiplatform.user" in refused["msg"] and key["client_email"] in refused["msg"]
        assert lab.rest.find(lab.path("secrets", "vertex-ai-sa-key")) is None
        google.allowed.add(key["client_email"])
        made = run()
        assert made["results"][0]["probe"] == {"outcome": "passed", "reason": ""}, made["msg"]
    lost = run()
    assert lost["failed"] and "could not be tried: 127.0.0.1" in lost["msg"]
    went_on = run("auto")
    assert not went_on.get("failed") and not went_on["changed"]
    assert went_on["results"][0]["probe"]["outcome"] == "skipped"


PLAY = """\
- name: Credentials
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Key
      rhpds.litemaas.vertex_credentials:
        namespace: "{{ namespace }}"
        secret: vertex-ai-sa-key
        path: /etc/vertex-credentials/key.json
        content: "{{ lookup('ansible.builtin.file', key_file) }}"
        probe: skip
"""


def test_a_key_is_neither_shown_nor_left_on_disk(lab: Lab) -> None:
    key = key_file("rhdp-infra")
    variables = {"namespace": lab.namespace, "key_file": lab.file("given.json", key)}
    keep = {"ANSIBLE_KEEP_REMOTE_FILES": "1", **lab.environment}
    done = lab.runner.playbook(PLAY, variables, diff=True, verbosity=5, env=keep)
    assert done.rc == 0, done.output
    assert done.changed == 1
    lab.assert_hidden(done.output)
    assert lab.secret("vertex-ai-sa-key")
    inside = key["private_key"].splitlines()[3]
    left = [path for path in lab.folder.rglob("*") if path.is_file() and inside in path.read_text(errors="replace")]
    assert left == [lab.folder / "given.json"]


def test_the_examples_run(lab: Lab, prefix: str) -> None:
    lab.file("litemaas-vertex-sa.json", key_file("rhdp-infra"))
    lab.file("rhdp-vertex-app-sa.json", key_file("itpc-gcp-product-all-claude"))
    replaced = {"namespace: litemaas": f"namespace: {lab.namespace}", "~/keys": str(lab.folder)}
    play = examples("vertex_credentials", **replaced, **{"model_name: claude": f"model_name: {prefix}claude"})
    # Those of the examples with a real address would be asked about keys that nobody has.
    done = lab.runner.playbook(
        play, env={**lab.environment, "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    )
    assert done.rc == 0, done.output
    assert done.changed == 3, done.output
    assert lab.mounts() == {str(Path(CLAUDE).parent): "vertex-claude-sa-key"}


def test_a_rollout_that_hangs_says_what_is_done_already_and_the_next_run_goes_on(lab: Lab) -> None:
    hold = {"spec": {"template": {"metadata": {"annotations": {"fakenode/hold": "true"}}}}}
    lab.patch(hold)
    one = {"secret": "vertex-ai-sa-key", "path": AI, "content": key_file("rhdp-infra")}
    result = lab.run(**one, wait_timeout=5)
    assert result.failed
    assert "Deployment/litellm" in result["msg"] and "pod litellm-" in result["msg"].lower()
    assert "By then Secret vertex-ai-sa-key was written, Deployment litellm was changed" in result["msg"]
    assert lab.mounts() == {str(Path(AI).parent): "vertex-ai-sa-key"}
    # What is ready still serves, without the key: it isn't said to be in place.
    lab.patch({"spec": {"template": {"metadata": {"annotations": {"fakenode/hold": None}}}}})
    again = lab.run(**one)
    assert not again.failed and not again.changed, again["msg"]
    assert len(again["results"][0]["verified_pods"]) == 2


READ = {"apiGroups": ["", "apps"], "resources": ["secrets", "deployments", "pods"], "verbs": ["get", "list"]}
EXEC = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]}
SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch"]}


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([EXEC], "get and patch on deployments.apps"),
        ([READ, SECRETS], "create and get on pods/exec"),
        ([READ, EXEC], "create and patch on secrets"),
        ([READ, EXEC, SECRETS], "get and patch on deployments.apps"),
    ],
)
def test_missing_rights_are_named_before_anything_is_written(
    lab: Lab, rules: list[dict[str, list[str]]], missing: str
) -> None:
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{lab.namespace}"
    lab.rest.request("POST", f"{rbac}/roles", {"metadata": {"name": "some"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "some"}
    subjects = [{"kind": "ServiceAccount", "name": "some", "namespace": lab.namespace}]
    binding = {"metadata": {"name": "some"}, "roleRef": reference, "subjects": subjects}
    lab.rest.request("POST", f"{rbac}/rolebindings", binding)
    lab.rest.request("POST", lab.path("serviceaccounts", ""), {"metadata": {"name": "some"}})
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = lab.rest.request("POST", lab.path("serviceaccounts", "some/token"), review)["status"]["token"]
    host = Cluster(kubeconfig=lab.environment["K8S_AUTH_KUBECONFIG"]).client().configuration.host
    one = {"secret": "vertex-ai-sa-key", "path": AI, "content": key_file("rhdp-infra")}
    args = {"namespace": lab.namespace, "probe": "skip", "host": host, "api_key": token, "validate_certs": False}
    for check in (True, False):
        result = lab.runner.module("vertex_credentials", {**args, **one}, check=check)
        assert result.failed
        assert f"needs {missing} there" in result["msg"], result["msg"]
        assert token not in str(result)
    assert lab.rest.find(lab.path("secrets", "vertex-ai-sa-key")) is None
    assert lab.mounts() == {}


def test_a_strategy_that_stops_all_pods_is_warned_about(lab: Lab) -> None:
    lab.patch({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}})
    result = lab.run(secret="vertex-ai-sa-key", path=AI, content=key_file("rhdp-infra"))
    assert "calls may fail during the rollout" in str(result["warnings"])
