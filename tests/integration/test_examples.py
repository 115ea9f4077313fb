# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples in the modules' documentation, run as they stand."""

from __future__ import annotations

import ast
import json
import textwrap
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.cluster import POSTGRES, Namespace
from ansible_collections.rhpds.litemaas.tests.integration.kube import workload


def needs_model(runner: harness.Runner, rename: Callable[[str], str], _namespace: Namespace) -> None:
    """The model that a key of the examples may call."""
    model = {"model_name": rename("granite-3-2-8b-instruct"), "litellm_model": "openai/demo-chat", "api_key": "none"}
    result = runner.module("litellm_model", {**model, "api_base": f"{runner.stack.upstream_url}/v1"})
    assert not result.failed, result["msg"]


def needs_keys(runner: harness.Runner, rename: Callable[[str], str], namespace: Namespace) -> None:
    """A workshop's keys, and their hand-out beside the playbook."""
    needs_model(runner, rename, namespace)
    keys = [{"key_alias": rename(f"virtkey-abc12-user{number}")} for number in (1, 2)]
    lab = {"guid": rename("guid: abc12").removeprefix("guid: "), "models": [rename("granite-3-2-8b-instruct")]}
    result = runner.module("litellm_virtual_key", {"keys": keys, "duration": "36h", **lab})
    assert not result.failed, result["msg"]
    handout = runner.folder / "handout.json"
    handout.touch(mode=0o600)
    handout.write_text(json.dumps(result["results"]), encoding="utf-8")


def needs_database(runner: harness.Runner, _rename: Callable[[str], str], namespace: Namespace) -> None:
    """LiteLLM's database in a pod, which has its credentials."""
    parts = urllib.parse.urlsplit(runner.stack.litellm_dsn)
    values = {"POSTGRES_USER": parts.username, "POSTGRES_PASSWORD": urllib.parse.unquote(str(parts.password))}
    env = [{"name": name, "value": value} for name, value in values.items()]
    namespace.service(POSTGRES, 5432)
    namespace.pod(f"{POSTGRES}-0", POSTGRES, runner.stack.litellm_dsn, env=env)
    namespace.secret("litemaas-db", DATABASE_URL=namespace.inside(runner.stack.litellm_dsn))


def needs_logo(runner: harness.Runner, _rename: Callable[[str], str], _namespace: Namespace) -> None:
    """A logo beside the playbook."""
    (runner.folder / "files").mkdir()
    (runner.folder / "files" / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")


def needs_workloads(_runner: harness.Runner, _rename: Callable[[str], str], namespace: Namespace) -> None:
    """A deployment as another program than ours makes it."""
    for name in ("litellm", "litellm-backend", "litellm-frontend"):
        namespace.create("apps/v1", "Deployment", name, spec=workload(name)["spec"])
    namespace.create("apps/v1", "StatefulSet", POSTGRES, spec=workload(POSTGRES, serviceName=POSTGRES)["spec"])
    pod = {"restartPolicy": "Never", "containers": [{"name": "migrate", "image": "quay.io/example/migrate:1"}]}
    namespace.create("batch/v1", "Job", "litellm-migrate", spec={"template": {"spec": pod}})
    spec = {"host": f"{namespace.name}.example.com", "to": {"kind": "Service", "name": "litellm"}}
    namespace.create("route.openshift.io/v1", "Route", "litellm", spec=spec)


@dataclass(frozen=True)
class Case:
    """What a module's examples need around them."""

    #: Words that get the test's prefix before them, so that everything made is found and removed.
    renamed: tuple[str, ...] = ()
    prepare: Callable[[harness.Runner, Callable[[str], str], Namespace], None] = lambda *_given: None
    variables: dict[str, str] = field(default_factory=dict)
    #: How many of the tasks change something on their first run.
    changed: int = 0


CASES = {
    "k8s_rollout_status": Case(renamed=("namespace: litemaas",), prepare=needs_workloads),
    "litemaas_adopt": Case(renamed=("namespace: litemaas",), prepare=needs_workloads, changed=2),
    "litemaas_branding": Case(
        prepare=needs_logo, variables={"litemaas_dsn": "{{ lookup('env', 'LITEMAAS_DSN') }}"}, changed=2
    ),
    "litemaas_database_dump": Case(
        renamed=("namespace: litemaas",),
        prepare=needs_database,
        variables={
            "litellm_dsn": "{{ lookup('env', 'LITELLM_DSN') }}",
            "backup_dir": "{{ playbook_dir }}/backups",
        },
        changed=2,
    ),
    "litemaas_cluster_info": Case(renamed=("namespace: litemaas",)),
    "litemaas_secrets": Case(
        renamed=("namespace: litemaas",), variables={"database_password": "of-somebody-else"}, changed=3
    ),
    "litellm_key_check": Case(
        renamed=("virtkey-abc12", "guid: abc12", "granite-3-2-8b-instruct"),
        prepare=needs_keys,
        variables={
            "litellm_key_secret": "{{ lookup('env', 'LITELLM_KEY_SECRET') }}",
            "handout": "{{ playbook_dir }}/handout.json",
        },
    ),
    "litellm_model": Case(
        renamed=(
            "granite-3-2-8b-instruct",
            "claude-sonnet-4-6",
            "gemini-2.5-pro",
            "nomic-embed-text-v1-5",
            "scope: vertex",
            "scope: workshop-models",
        ),
        changed=5,
    ),
    "litellm_model_info": Case(),
    "litellm_team": Case(
        renamed=("lab-abc12", "guid: abc12", "team_id: research", "team_id: support", "granite-3-2-8b-instruct"),
        prepare=needs_model,
        changed=3,
    ),
    "litellm_virtual_key": Case(
        renamed=("virtkey-abc12", "guid: abc12", "granite-3-2-8b-instruct"),
        prepare=needs_model,
        variables={"litellm_key_secret": "{{ lookup('env', 'LITELLM_KEY_SECRET') }}"},
        changed=5,
    ),
    "litellm_virtual_key_info": Case(),
    "litellm_virtual_key_rows": Case(
        renamed=("virtkey-abc12", "guid: abc12", "namespace: litemaas"),
        prepare=needs_database,
        variables={"litellm_dsn": "{{ lookup('env', 'LITELLM_DSN') }}"},
    ),
}


@pytest.mark.parametrize("module", CASES)
def test_examples_run(runner: harness.Runner, prefix: str, namespace: Namespace, module: str) -> None:
    case = CASES[module]

    def rename(text: str) -> str:
        for word in case.renamed:
            before, _space, name = word.rpartition(" ")
            text = text.replace(word, f"{before} {prefix}{name}".lstrip())
        return text

    source = (harness.CHECKOUT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8")
    assigned = {
        node.targets[0].id: node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    tasks = textwrap.indent(rename(str(assigned["EXAMPLES"])).strip(), "    ")
    case.prepare(runner, rename, namespace)
    play = "- name: Examples\n  hosts: localhost\n  gather_facts: false\n  tasks:\n"
    done = runner.playbook(f"{play}{tasks}\n", case.variables)
    assert done.rc == 0, done.output
    assert done.changed == case.changed, done.output
