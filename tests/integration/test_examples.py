# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples in the modules' documentation, run as they stand; but for a reader's own names and places."""

from __future__ import annotations

import ast
import json
import textwrap
import urllib.parse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils import redis
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import restore
from ansible_collections.rhpds.litemaas.tests.integration import (
    harness,
    kube,
    operatelab,
    statuslab,
    test_backend_sync,
    test_backup,
)
from ansible_collections.rhpds.litemaas.tests.integration.cluster import POSTGRES, Namespace
from ansible_collections.rhpds.litemaas.tests.integration.kube import workload

#: Without these a namespace's own addresses are taken: what the environment says comes before them.
FOUND_BY_NAMESPACE = dict.fromkeys(("LITELLM_URL", "LITELLM_MASTER_KEY", "LITEMAAS_DSN", "LITELLM_DSN"), "")


@dataclass
class Around:
    """The place of one run: what a Case prepares, and where it says what it has found."""

    runner: harness.Runner
    rename: Callable[[str], str]
    namespace: Namespace
    #: Ends what a Case has started.
    until: ExitStack
    #: What examples say of places of a reader's, and what the test has there: each has to be in the examples.
    words: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


def needs_model(around: Around) -> None:
    """The model that a key of the examples may call."""
    model = {
        "model_name": around.rename("granite-3-2-8b-instruct"),
        "litellm_model": "openai/demo-chat",
        "api_key": "none",
    }
    result = around.runner.module("litellm_model", {**model, "api_base": f"{around.runner.stack.upstream_url}/v1"})
    assert not result.failed, result["msg"]


def needs_keys(around: Around) -> None:
    """A workshop's keys, and their hand-out beside the playbook."""
    needs_model(around)
    keys = [{"key_alias": around.rename(f"virtkey-abc12-user{number}")} for number in (1, 2)]
    lab = {
        "guid": around.rename("guid: abc12").removeprefix("guid: "),
        "models": [around.rename("granite-3-2-8b-instruct")],
    }
    result = around.runner.module("litellm_virtual_key", {"keys": keys, "duration": "36h", **lab})
    assert not result.failed, result["msg"]
    handout = around.runner.folder / "handout.json"
    handout.touch(mode=0o600)
    handout.write_text(json.dumps(result["results"]), encoding="utf-8")


def needs_database(around: Around) -> None:
    """LiteLLM's database in a pod, which has its credentials."""
    parts = urllib.parse.urlsplit(around.runner.stack.litellm_dsn)
    values = {"POSTGRES_USER": parts.username, "POSTGRES_PASSWORD": urllib.parse.unquote(str(parts.password))}
    env = [{"name": name, "value": value} for name, value in values.items()]
    around.namespace.service(POSTGRES, 5432)
    around.namespace.pod(f"{POSTGRES}-0", POSTGRES, around.runner.stack.litellm_dsn, env=env)
    around.namespace.secret("litemaas-db", DATABASE_URL=around.namespace.inside(around.runner.stack.litellm_dsn))


def needs_logo(around: Around) -> None:
    """A logo beside the playbook."""
    (around.runner.folder / "files").mkdir()
    (around.runner.folder / "files" / "logo.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8"
    )


def needs_workloads(around: Around) -> None:
    """A deployment as another program than ours makes it."""
    for name in ("litellm", "litellm-backend", "litellm-frontend"):
        around.namespace.create("apps/v1", "Deployment", name, spec=workload(name)["spec"])
    around.namespace.create("apps/v1", "StatefulSet", POSTGRES, spec=workload(POSTGRES, serviceName=POSTGRES)["spec"])
    pod = {"restartPolicy": "Never", "containers": [{"name": "migrate", "image": "quay.io/example/migrate:1"}]}
    around.namespace.create("batch/v1", "Job", "litellm-migrate", spec={"template": {"spec": pod}})
    spec = {"host": f"{around.namespace.name}.example.com", "to": {"kind": "Service", "name": "litellm"}}
    around.namespace.create("route.openshift.io/v1", "Route", "litellm", spec=spec)


def needs_vault(around: Around) -> None:
    """LiteLLM's database, and a vault's password in a file."""
    needs_database(around)
    around.namespace.secret("litellm-secret", LITELLM_MASTER_KEY=around.runner.stack.master_key)
    path = around.runner.folder / "vault-password"
    path.touch(mode=0o600)
    path.write_text("a-vault-password-of-a-test", encoding="utf-8")
    around.words["/root/.litemaas-vault"] = str(path)


def needs_backup(around: Around) -> None:
    """A folder with a backup."""
    folder = around.runner.folder / "backups"
    given = {"dsn": around.runner.stack.litemaas_dsn, "dest": str(folder)}
    result = around.runner.module("litemaas_database_dump", given)
    assert not result.failed, result["msg"]
    around.words["/srv/backups"] = str(folder)


def needs_restore(around: Around) -> None:
    """A backup of the deployment, and a database that a restore has left."""
    namespace, stack, folder = around.namespace, around.runner.stack, around.runner.folder / "backups"
    parts = urllib.parse.urlsplit(stack.litellm_dsn)
    values = {"POSTGRES_USER": parts.username, "POSTGRES_PASSWORD": urllib.parse.unquote(str(parts.password))}
    namespace.litemaas(shared=True)
    namespace.delete("v1", "Pod", f"{POSTGRES}-0")
    env = [{"name": name, "value": value} for name, value in values.items()]
    namespace.pod(f"{POSTGRES}-1", POSTGRES, stack.litellm_dsn, env=env)
    result = around.runner.module("litemaas_database_dump", {"namespace": namespace.name, "dest": str(folder)})
    assert not result.failed, result["msg"]
    around.words["/srv/backups/litemaas-20260321T081500.123456Z.json"] = result["manifest"]
    left = "litellm_db_before_20260321t090000"
    statuslab.run(stack.litellm_dsn, f"CREATE DATABASE {left}")
    statuslab.run(stack.litellm_dsn, f"COMMENT ON DATABASE {left} IS %s", (f"{restore.MARK}put aside",))
    around.until.callback(statuslab.run, stack.litellm_dsn, f"DROP DATABASE {left}")


def needs_volume(around: Around) -> None:
    """The database's volume, in a cluster whose storage has snapshots."""
    around.until.enter_context(test_backup.snapshots(around.namespace))
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    around.namespace.create("v1", "PersistentVolumeClaim", f"postgres-storage-{POSTGRES}-0", spec=spec)


def needs_ended_key(around: Around) -> None:
    """A LiteMaaS in the cluster with keys of which one has ended; it shares its proxy with other tests."""
    stack = around.runner.stack
    around.namespace.litemaas()
    start = around.namespace.name.removesuffix("litemaas")
    keys = [{"key_alias": f"{start}{number}"} for number in range(10)]
    result = around.runner.module("litellm_virtual_key", {"keys": keys})
    assert not result.failed, result["msg"]
    statuslab.run(
        stack.litellm_dsn,
        "UPDATE \"LiteLLM_VerificationToken\" SET expires = now() - interval '2 days',"
        " created_at = now() - interval '1 year' WHERE key_alias = %s",
        (f"{start}0",),
    )
    around.env |= FOUND_BY_NAMESPACE
    around.variables |= {"litemaas_dsn": stack.litemaas_dsn, "litellm_dsn": stack.litellm_dsn}
    around.variables["litellm_master_key"] = stack.master_key


def needs_stores(around: Around) -> None:
    """A LiteMaaS in the cluster, whose stores are this test's own: the examples are about everything that there is."""
    namespace, stack = around.namespace, around.runner.stack
    stores = around.until.enter_context(statuslab.stores(stack))
    dsns = {"DATABASE_URL": stores.litemaas_dsn, "LITELLM_DATABASE_URL": stores.litellm_dsn}
    namespace.litemaas()
    namespace.delete("v1", "Secret", "litemaas-db")
    urls = {
        name: namespace.inside(dsn, f"?sslmode=disable&{urllib.parse.urlsplit(dsn).query}")
        for name, dsn in dsns.items()
    }
    namespace.secret("litemaas-db", **urls)
    around.env |= FOUND_BY_NAMESPACE
    around.variables |= {"litemaas_dsn": stores.litemaas_dsn, "litellm_dsn": stores.litellm_dsn}
    around.variables["litellm_master_key"] = stack.master_key
    for name in ("ada", "grace", "alan", "edsger"):
        stores.litemaas(
            "INSERT INTO users (username, email, oauth_provider, oauth_id) VALUES (%s, %s, 'openshift', %s)",
            (name, f"{name}@example.com", name),
        )
    stores.litellm(
        'INSERT INTO "LiteLLM_DeletedVerificationToken" (id, token, key_alias, metadata, models, deleted_at,'
        " created_at) VALUES ('1', 'x', 'old', '{}', '{}', now() - interval '2 years', now() - interval '3 years')"
    )


def needs_catalogue(around: Around) -> None:
    """The same, known from the environment, and models for the catalogue."""
    needs_stores(around)
    stack = around.runner.stack
    around.env |= {"LITELLM_URL": stack.url, "LITELLM_MASTER_KEY": stack.master_key}
    around.env["LITEMAAS_DSN"] = around.variables["litemaas_dsn"]
    model = {
        "litellm_model": "openai/demo-chat",
        "api_key": "none",
        "api_base": f"{around.runner.stack.upstream_url}/v1",
    }
    names = [around.rename(name) for name in ("granite-3-2-8b-instruct", "nomic-embed-text-v1-5")]
    result = around.runner.module("litellm_model", {"models": [{"model_name": name, **model} for name in names]})
    assert not result.failed, result["msg"]


def needs_report(around: Around) -> None:
    """The same, and a folder for a page."""
    needs_stores(around)
    around.words["/srv/www"] = str(around.runner.folder)


def needs_backend(around: Around) -> None:
    """A double of LiteMaaS's backend, as its own test has it."""
    needs_model(around)
    tables = test_backend_sync.Catalogue(around.runner.stack.litemaas_dsn)
    around.until.callback(tables.close)
    backend = test_backend_sync.Backend(tables)
    around.until.callback(backend.server.server_close)
    around.until.callback(backend.server.shutdown)
    around.namespace.litemaas()
    around.env |= FOUND_BY_NAMESPACE
    around.namespace.ingress("litellm-admin", backend.url, service="litellm-backend")
    around.namespace.secret("backend-secret", ADMIN_API_KEY=test_backend_sync.KEY, JWT_SECRET="a-jwt-secret")
    around.words["https://litellm-admin.example.com"] = backend.url
    around.variables |= {"litemaas_admin_key": test_backend_sync.KEY, "litemaas_dsn": tables.dsn}
    around.variables["litellm_master_key"] = around.runner.stack.master_key


def needs_parts(around: Around) -> None:
    """All parts as a deploy applies them, PostgreSQL, and a Redis of the test's own."""
    stack, password = around.runner.stack, "redis-password-of-a-test"
    lab = operatelab.Lab(kube.Namespace(kube.Kube(stack), around.namespace.name))
    port = around.until.enter_context(operatelab.redis(around.runner.folder, password))
    # So few that five replicas fit into what the server takes.
    lab.config(operatelab.CONFIG.replace("database_connection_pool_limit: 10", "database_connection_pool_limit: 1"))
    shared = stack.variables["LITEMAAS_SHARED_DSN"]
    lab.secrets(shared, shared, LITELLM_MASTER_KEY=stack.master_key, LITELLM_SALT_KEY="sk-salt-key-of-a-test")
    lab.place.secret("litellm-redis", password=password)
    lab.postgres(shared)
    lab.redis(f"127.0.0.1:{port}")
    definitions = {name: lab.definition(name) for name in operatelab.OLD}
    (backend,) = definitions["litellm-backend"]["spec"]["template"]["spec"]["containers"]
    (limit,) = [one for one in backend["env"] if one["name"] == "DB_MAX_CONNECTIONS"]
    limit["value"] = "10"
    lab.deploy(*definitions.values())
    lab.ready("litellm-postgres", "litellm-redis", *operatelab.OLD)
    around.variables["redis_url"] = f"redis://:{password}@127.0.0.1:{port}"


def needs_counts(around: Around) -> None:
    """The same, and what LiteLLM has counted in that Redis."""
    needs_parts(around)
    with redis.connect(redis.Address.of(around.variables["redis_url"])) as connection:
        connection.command("SET", "counted", "1")


def needs_ours(around: Around) -> None:
    """Deployments that are marked as made by this collection."""
    lab = operatelab.Lab(kube.Namespace(kube.Kube(around.runner.stack), around.namespace.name))
    lab.deploy(*(lab.definition(name) for name in operatelab.OLD))


def needs_new_release(around: Around) -> None:
    """The same, and what an upgrade takes from beside the playbook."""
    needs_parts(around)
    (around.runner.folder / "litellm-migrate.py").write_text("print('migrated')", encoding="utf-8")
    around.words["/var/backups/litemaas"] = str(around.runner.folder / "backups")


@dataclass(frozen=True)
class Case:
    """What a module's examples need around them."""

    #: Words that get the test's prefix before them, so that everything made is found and removed.
    renamed: tuple[str, ...] = ()
    prepare: Callable[[Around], None] = lambda _around: None
    variables: dict[str, Any] = field(default_factory=dict)
    #: How many of the tasks change something on their first run, or would.
    changed: int = 0
    #: In check mode: a real run takes long, or destroys what other tests need. It has tests of its own.
    check: bool = False


CASES = {
    "k8s_rollout_status": Case(renamed=("namespace: litemaas",), prepare=needs_workloads),
    "litemaas_adopt": Case(renamed=("namespace: litemaas",), prepare=needs_workloads, changed=2),
    "litemaas_branding": Case(
        prepare=needs_logo, variables={"litemaas_dsn": "{{ lookup('env', 'LITEMAAS_DSN') }}"}, changed=2
    ),
    "litemaas_database_dump": Case(
        renamed=("namespace: litemaas",),
        prepare=needs_vault,
        variables={
            "litellm_dsn": "{{ lookup('env', 'LITELLM_DSN') }}",
            "backup_dir": "{{ playbook_dir }}/backups",
        },
        changed=3,
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
    "agnosticd_user_info": Case(
        variables={
            "lab_key": "sk-key-of-a-lab",
            "workshop_keys": {"user1": "sk-key-of-user1", "user2": "sk-key-of-user2"},
            "output_dir": "{{ playbook_dir }}",
        },
        changed=3,
    ),
    "k8s_access_check": Case(renamed=("namespace: litemaas",)),
    "litellm_cache_flush": Case(prepare=needs_counts, changed=1),
    "litellm_key_archive": Case(prepare=needs_stores, changed=1),
    "litellm_key_cleanup": Case(prepare=needs_ended_key, check=True, changed=4),
    "litemaas_backend_sync": Case(renamed=("granite-3-2-8b-instruct",), prepare=needs_backend),
    "litemaas_backup_info": Case(prepare=needs_backup),
    "litemaas_backup_prune": Case(prepare=needs_backup),
    "litemaas_db_sync": Case(
        renamed=("granite-3-2-8b-instruct", "nomic-embed-text-v1-5"), prepare=needs_catalogue, changed=2
    ),
    "litemaas_removal": Case(renamed=("namespace: litemaas",), prepare=needs_ours, check=True, changed=3),
    "litemaas_restart": Case(prepare=needs_parts, check=True, changed=2),
    "litemaas_restore": Case(
        renamed=("namespace: litemaas", "confirm: litemaas"), prepare=needs_restore, check=True, changed=2
    ),
    "litemaas_rotate": Case(
        prepare=needs_parts, variables={"vault_database_password": "another-password-of-a-test"}, check=True, changed=2
    ),
    "litemaas_scale": Case(prepare=needs_parts, changed=2),
    "litemaas_status": Case(prepare=needs_report),
    "litemaas_upgrade": Case(prepare=needs_new_release, check=True, changed=2),
    "litemaas_user": Case(prepare=needs_stores, check=True, changed=3),
    "litemaas_volume_snapshot": Case(renamed=("namespace: litemaas",), prepare=needs_volume, check=True, changed=1),
}

#: Modules without a case, and why.
LEFT_OUT = {
    "kserve_model_info": "its own test runs its examples, with InferenceServices",
    "vertex_credentials": "its own test runs its examples, with keys and a Deployment",
}


def test_every_module_has_a_case() -> None:
    modules = {path.stem for path in (harness.CHECKOUT / "plugins" / "modules").glob("[!_]*.py")}
    assert modules - set(CASES) - set(LEFT_OUT) == set(), "give them a Case, or say in LEFT_OUT why they have none"
    assert set(CASES) & set(LEFT_OUT) == set()
    assert set(CASES) | set(LEFT_OUT) == modules, "CASES or LEFT_OUT name a module that is gone"


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
    with ExitStack() as until:
        around = Around(runner, rename, namespace, until)
        case.prepare(around)
        for word, here in around.words.items():
            assert word in tasks, f"{module}'s examples don't name {word} any more"
            tasks = tasks.replace(word, here)
        for word, here in {"litellm-rhpds": namespace.name, "https://litellm.example.com": runner.stack.url}.items():
            tasks = tasks.replace(word, here)
        play = "- name: Examples\n  hosts: localhost\n  gather_facts: false\n  tasks:\n"
        variables = {**case.variables, **around.variables}
        done = runner.playbook(f"{play}{tasks}\n", variables, check=case.check, env=around.env)
    assert done.rc == 0, done.output
    assert done.changed == case.changed, done.output
