# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/troubleshooting.md and docs/from-scripts.md: each command in them is run, where there is what it is about.

The namespace has the workloads and Secrets of a deployment, whose ports lead to the stack's servers; LiteMaaS's
database is one of its own, with the troubles that the sections tell of. Commands that look come first, all at once;
then those that act, in lanes beside each other, in each lane one after the other. ``RULES`` says what else is to be
known of them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness, kube, proxies
from ansible_collections.rhpds.litemaas.tests.integration.test_key_cleanup_role import Bastion
from ansible_collections.rhpds.litemaas.tests.unit.plugins.module_utils.google import key_file

DOCS = harness.CHECKOUT / "docs"
GUIDE, TABLE = "troubleshooting.md", "from-scripts.md"
BEGIN = "ansible-playbook rhpds.litemaas."
ROW = re.compile(r"^\| (.+) \|$")
VERTEX = "ocp4_workload_litemaas_vertex_"
KEYS = "ocp4_workload_litellm_virtual_keys_"


# ---- what the documents say ----


@dataclass(frozen=True)
class Command:
    """A command as it is typed, without its comment."""

    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    @property
    def playbook(self) -> str:
        return self.words[1].removeprefix("rhpds.litemaas.")

    @property
    def variables(self) -> list[str]:
        given = [after for word, after in zip(self.words, self.words[1:], strict=False) if word == "-e"]
        names: list[str] = []
        for one in given:
            if one.startswith("{"):
                names += json.loads(one)
            elif not one.startswith("@"):
                names.append(one.partition("=")[0])
        return names

    @property
    def short(self) -> str:
        """What tells it from others."""
        rest = " ".join(self.text.split()).removeprefix(BEGIN)
        return rest.replace(" -e namespace=$NS", "").replace(" \\", "")


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def cells(line: str) -> list[str]:
    """A table's row; a bar of a command in it is written ``\\|``."""
    found = ROW.match(line)
    assert found, line
    return [one.strip().replace("\\|", "|") for one in re.split(r"(?<!\\)\|", found[1])]


def tables(text: str) -> list[list[str]]:
    """All rows of all tables, without their heads."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [cells(line) for block in blocks for line in block.splitlines()[2:]]


def commands_of(code: str) -> list[Command]:
    """The commands of a block of shell, those over several lines too."""
    lines = code.replace("\\\n", " ").splitlines()
    return [Command(" ".join(line.split("  #")[0].split())) for line in lines if line.startswith("ansible-playbook")]


@cache
def sections() -> dict[str, list[Command]]:
    """The guide's sections, each with the commands of its last block."""
    found = {}
    for part in read(GUIDE).split("\n## ")[1:]:
        title, _newline, body = part.partition("\n")
        block = re.search(r"```sh\n(.*)\n```\s*$", body, re.DOTALL)
        found[title] = commands_of(block[1]) if block else []
    return found


@cache
def rows() -> list[tuple[str, list[Command]]]:
    """The table's rows: what was typed, and the commands that do it now."""
    found = []
    for typed, now, *_better in tables(read(TABLE)):
        spans = re.findall(r"`([^`]+)`", now)
        found.append((typed, [Command(one) for one in spans if one.startswith("ansible-playbook")]))
    return found


def everything() -> list[Command]:
    """Each command of both documents once, in their order."""
    typed = [command for commands in sections().values() for command in commands]
    typed += [command for _typed, commands in rows() for command in commands]
    typed += [Command(one) for name in (GUIDE, TABLE) for one in re.findall(rf"`({BEGIN}[^`]+)`", read(name))]
    return list({command.short: command for command in typed}.values())


def anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@cache
def header(playbook: str) -> str:
    """What stands above a playbook."""
    path = harness.CHECKOUT / "playbooks" / f"{playbook}.yml"
    assert path.exists(), f"there is no playbook {playbook}"
    return "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))


@cache
def role_options() -> set[str]:
    found: set[str] = set()
    for path in harness.CHECKOUT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            found |= set(entry.get("options") or {})
    return found


def test_the_guide_is_whole() -> None:
    """Each section ends in a command, and the table on top leads to each, under its very name."""
    assert len(sections()) > 20
    assert not [title for title, commands in sections().items() if not commands]
    links = [re.fullmatch(r"\[(.+)\]\(#(.+)\)", where) for _seen, where in tables(read(GUIDE))]
    assert all(links)
    assert [found[1] for found in links if found] == list(sections())
    assert not [found[0] for found in links if found and found[2] != anchor(found[1])]


def test_each_row_has_a_command() -> None:
    assert len(rows()) > 40
    assert not [typed for typed, commands in rows() if not commands]


@pytest.mark.parametrize("command", everything(), ids=lambda command: command.short)
def test_commands_are_real(command: Command) -> None:
    """The playbook exists, and its header, or the role that it leads to, knows each variable."""
    known = set(re.findall(r"\w+", header(command.playbook)))
    roles = re.search(
        r"rhpds\.litemaas\.ocp4_", (harness.CHECKOUT / "playbooks" / f"{command.playbook}.yml").read_text()
    )
    unknown = set(command.variables) - known - (role_options() if roles else set())
    assert not unknown, f"{command.playbook} knows no {', '.join(sorted(unknown))}"


# ---- what is run ----


@dataclass(frozen=True)
class Rule:
    """What is to be known of a command.

    Attributes:
        lane: commands of one lane act on the same things. Empty: it only looks.
        check: it is run with ``--check``: it would destroy, or wait for what isn't here.
        rc: exit status that is meant.
        says: what has to stand in its output.
        given: variables that the place needs beside those of the document.
        elsewhere: test that runs it, in place of this one.
    """

    lane: str = ""
    check: bool = False
    rc: int = 0
    says: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    elsewhere: str = ""


#: A bucket, another host, a whole deployment and a key of Google's are those tests' own.
BACKUP = "tests/integration/test_backup.py"
S3 = f"{BACKUP}::test_to_s3_and_back"
CRON = "tests/integration/test_key_cleanup_role.py::test_cron_on_a_host"
DEPLOY = "tests/integration/test_deploy.py::test_a_deployment_and_what_moves_in_it"
GOOGLE = "tests/integration/test_vertex_ai.py::test_everything_comes_stays_and_goes"
REGIONS = "tests/integration/test_vertex_ai.py::test_regions_are_those_that_are_asked_for"
LAB = "tests/integration/test_namespace.py::test_keys_are_derived_from_the_secret_of_the_namespace"
MODELS = "tests/integration/test_namespace.py::test_a_namespace_and_a_list_are_the_whole_command"
#: By the beginning of a command, without ``ansible-playbook``, collection and namespace; the longest one holds.
RULES: dict[str, Rule] = {
    # -- to see
    "status": Rule(says="serves made-up data"),
    "status -e log_lines=100": Rule(says="litellm-frontend"),
    "check_databases": Rule(rc=2, says="only_in_litemaas"),
    "list_backups": Rule("backups", says="1 backup in"),
    "list_backups -e s3_bucket=maas-db-backup": Rule(elsewhere=S3),
    "manage_virtual_keys": Rule(says="virtkey-"),
    "check_workshop": Rule(says="1 ok"),
    # -- the two stores
    "sync_databases": Rule("stores"),
    "sync_databases -e sync_repair=orphaned_models": Rule("stores", says="unavailable"),
    "sync_databases -e sync_repair=orphaned_keys": Rule("stores", says="revoked"),
    # Where the backend has no database, it says so instead; tests/integration/test_backend_sync.py has the rest.
    "backend_sync": Rule(rc=2, says="made-up"),
    "manage_models -e @models.yml": Rule(elsewhere=MODELS),
    "manage_models -e '{\"ocp4_workload_litemaas_models_list\": []}'": Rule("stores"),
    # -- keys and people
    "provision_key -e guid=abc12 -e num_users=30": Rule(elsewhere=LAB),
    "provision_key": Rule("lab", says="1 virtual key"),
    "extend_key": Rule("lab"),
    "manage_virtual_keys -e virtual_key_action=rotate": Rule("lab", says="1 virtual key"),
    "cleanup_keys --check": Rule(says="1 of "),
    "cleanup_keys": Rule("keys", says="1 of "),
    "install_key_cleanup": Rule(elsewhere=CRON),
    "remove_key_cleanup": Rule(elsewhere=CRON),
    "prune_key_archive --check": Rule(says="rows of the archive"),
    "promote_admin -e email=user@redhat.com": Rule("people", says="1 changed"),
    "promote_admin -e list_admins=true": Rule("people", says="LiteMaaS users: "),
    "user_limits": Rule("people"),
    "credentials": Rule("people"),
    # -- pods
    "auto_sync": Rule(says="off"),
    "auto_sync -e auto_sync=on": Rule("workloads", says="is on, and was off before"),
    "restart": Rule("workloads", says="ready in"),
    # The stack's PostgreSQL gives half of what a deployment's does.
    "scale": Rule("workloads", says="max_connections is 200", given={"max_connections": 200}),
    "upgrade": Rule(check=True, says="would change"),
    "flush_cache": Rule("workloads", says="Redis in pod"),
    "rotate_master_key": Rule(check=True, says="AgnosticV's secrets include"),
    "rotate_database_password": Rule(check=True, says="would be rotated"),
    "rotate_salt_key": Rule(rc=2, says="can't be rotated"),
    "deploy_litemaas_ha": Rule(elsewhere=DEPLOY),
    "vertex_ai": Rule(check=True, says="9 "),
    "vertex_ai --check": Rule(elsewhere=GOOGLE),
    "vertex_ai -e @vertex.yml": Rule(elsewhere=GOOGLE),
    f"vertex_ai -e {VERTEX}fallback=claude": Rule(elsewhere=REGIONS),
    'vertex_ai -e \'{"ocp4_workload_litemaas_vertex_locations":': Rule(elsewhere=REGIONS),
    # -- backups
    "backup": Rule("backups"),
    "backup -e s3_bucket=maas-db-backup": Rule(elsewhere=S3),
    "test_restore": Rule("backups", says="can be restored"),
    "restore": Rule("backups", check=True, says="would be restored"),
    "install_backup": Rule(elsewhere=f"{BACKUP}::test_install_and_remove"),
}


def rule_of(command: Command) -> Rule:
    """The longest one that fits."""
    fitting = [one for one in RULES if f"{command.short} ".startswith(f"{one} ")]
    return RULES[max(fitting, key=len)] if fitting else Rule()


def test_rules_are_used() -> None:
    every = {id(rule_of(command)) for command in everything()}
    assert not [name for name, rule in RULES.items() if id(rule) not in every]


class Backend(ThreadingHTTPServer):
    """Stands for LiteMaaS's backend, which found no database when it started."""

    def __init__(self) -> None:
        answers = {
            "/api/v1/health/ready": {"status": "ready"},
            "/api/v1/admin/users": {"data": [{"id": "mock-user-1", "username": "developer"}]},
            "/api/v1/models/sync": {"success": True, "totalModels": 1, "errors": []},
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = answers.get(urlsplit(self.path).path)
                body = json.dumps(answer).encode()
                self.send_response(200 if answer else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.do_GET()

            def log_request(self, *_given: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *given: Any) -> None:
        self.shutdown()
        super().__exit__(*given)


class Site:
    """A LiteMaaS in a namespace, with troubles."""

    def __init__(
        self, stack: harness.Stack, litellm: harness.LiteLLM, namespace: cluster.Namespace, dsn: str, backend: Backend
    ) -> None:
        self.stack, self.litellm, self.namespace, self.dsn, self.backend = stack, litellm, namespace, dsn, backend
        self.prefix = namespace.name.removesuffix("litemaas")
        self.guid = self.prefix.strip("-")
        self.email = f"{self.prefix}ada@example.com"

    def build(self, model: str, stack_secrets: Path) -> None:
        """Secrets, workloads, databases, and what is wrong with them."""
        self.model = model
        place, stack = self.namespace, self.stack
        parts = urlsplit(self.dsn)
        password = unquote(parts.password or "")
        place.secret(
            "litemaas-db",
            username=parts.username or "",
            password=password,
            database=parts.path.lstrip("/"),
            DATABASE_URL=place.inside(self.dsn),
            LITELLM_DATABASE_URL=place.inside(stack.litellm_dsn),
        )
        salt_key = json.loads(stack_secrets.read_text(encoding="utf-8"))["secrets"]["salt_key"]
        place.secret(
            "litellm-secret",
            LITELLM_MASTER_KEY=stack.master_key,
            LITELLM_SALT_KEY=salt_key,
            UI_USERNAME="admin",
            UI_PASSWORD=secrets.token_hex(8),
        )
        admin = f"ltm_admin_{secrets.token_hex(12)}"
        place.secret("backend-secret", JWT_SECRET=secrets.token_hex(24), ADMIN_API_KEY=admin, OAUTH_CLIENT_SECRET="x")
        place.secret("litellm-key-derivation", key_secret=stack.key_secret)
        place.secret("litellm-redis", password=unquote(urlsplit(stack.variables["REDIS_URL"]).password or ""))
        for name, project in (("vertex-ai", "rhdp-infra"), ("vertex-claude", "itpc-gcp-product-all-claude")):
            place.secret(f"{name}-sa-key", **{"key.json": json.dumps(key_file(project))})
        place.service("litellm", 4000)
        place.ingress("litellm", stack.url)
        self._workloads()
        self._stores()

    def _workloads(self) -> None:
        place = self.namespace

        def from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
            return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}

        image = "quay.io/rh-aiservices-bu/litemaas-frontend"
        env = [from_secret("DATABASE_URL", "litemaas-db", "LITELLM_DATABASE_URL")]
        env.append(from_secret("REDIS_PASSWORD", "litellm-redis", "password"))
        env += [from_secret(name, "litellm-secret", name) for name in ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY")]
        litellm = kube.workload(
            "litellm", "quay.io/rh-aiservices-bu/litellm-non-root:main-v1.81.0-stable-custom", 2, env
        )
        # As the role has it: the replicas count in Redis.
        config = proxies.render({"litellm_config_redis_host": "litellm-redis"})
        place.create("v1", "ConfigMap", "litellm-config", data={"config.yaml": config})
        pod = litellm["spec"]["template"]["spec"]
        pod["volumes"] = [{"name": "config", "configMap": {"name": "litellm-config"}}]
        pod["containers"][0] |= {
            "args": ["--config", "/etc/litellm/config.yaml", "--port", "4000", "--num_workers", "1"],
            "volumeMounts": [{"name": "config", "mountPath": "/etc/litellm", "readOnly": True}],
        }
        backend = kube.workload(
            "litellm-backend",
            "quay.io/rh-aiservices-bu/litemaas-backend:0.4.0",
            env=[
                from_secret("DATABASE_URL", "litemaas-db", "DATABASE_URL"),
                from_secret("LITELLM_DATABASE_URL", "litemaas-db", "LITELLM_DATABASE_URL"),
                from_secret("ADMIN_API_KEYS", "backend-secret", "ADMIN_API_KEY"),
                from_secret("LITELLM_API_KEY", "litellm-secret", "LITELLM_MASTER_KEY"),
                {"name": "LITELLM_AUTO_SYNC", "value": "false"},
            ],
            container="backend",
            annotations={"fakenode/forward": f"8080=127.0.0.1:{self.backend.server_address[1]}"},
        )
        # The portal of an older version.
        frontend = kube.workload("litellm-frontend", f"{image}:0.4.0", container="frontend")
        frontend["spec"]["template"]["spec"]["initContainers"] = [{"name": "branding", "image": f"{image}:0.3.9"}]
        auth = [from_secret(name, "litellm-redis", "password") for name in ("REDIS_PASSWORD", "REDISCLI_AUTH")]
        redis = kube.workload("litellm-redis", "docker.io/library/redis:7", env=auth, container="redis")
        users = [("USER", "username"), ("PASSWORD", "password"), ("DB", "database")]
        env = [from_secret(f"POSTGRES_{name}", "litemaas-db", key) for name, key in users]
        postgres = kube.workload(
            "litellm-postgres",
            "docker.io/library/postgres:16",
            env=env,
            container="postgres",
            serviceName="litellm-postgres",
        )
        ports = {"litellm": 4000, "postgres": 5432, "redis": 6379, "backend": 8080, "frontend": 8080}
        for name, body in (
            ("litellm", litellm),
            ("litellm-backend", backend),
            ("litellm-frontend", frontend),
            ("litellm-redis", redis),
        ):
            self._create("Deployment", name, body, ports)
        self._create("StatefulSet", cluster.POSTGRES, postgres, ports)
        for name, port in (("postgres", 5432), ("redis", 6379), ("backend", 8080), ("frontend", 8080)):
            place.service(f"litellm-{name}", port)
        for name in ("backend", "frontend"):
            place.route(f"{place.name}-{name}", f"{name}.{place.name}.example.com", f"litellm-{name}")
        place.ready(f"{cluster.POSTGRES}-0")

    def _create(self, kind: str, name: str, body: dict[str, Any], ports: dict[str, int]) -> None:
        pod = body["spec"]["template"]["spec"]
        pod["automountServiceAccountToken"] = False
        main = pod["containers"][0]
        main["ports"] = [{"containerPort": ports[main["name"]], "protocol": "TCP"}]
        self.namespace.create("apps/v1", kind, name, spec=body["spec"], labels=body["metadata"]["labels"])

    def _stores(self) -> None:
        """What the sections tell of: the catalogue knows nothing of one model and one that is gone, and so on."""
        name, post = self.prefix, self.litellm.post
        params = {"model": "openai/demo-chat", "api_base": f"{self.stack.upstream_url}/v1"}
        for model in ("back", "twin", "twin"):
            post("/model/new", model_name=name + model, litellm_params=params, model_info={})
        alive = post("/key/generate", key_alias=f"{name}alive", models=[self.model])["token"]
        old = post("/key/generate", key_alias=f"{name}old", models=[self.model], duration="30d")["token"]
        self.sql(
            self.stack.litellm_dsn,
            "UPDATE \"LiteLLM_VerificationToken\" SET expires = now() - interval '9 days' WHERE token = %s",
            old,
        )
        self.sql(self.dsn, (harness.CHECKOUT / "tests/stack/litemaas_schema.sql").read_text(encoding="utf-8"))
        self.sql(
            self.dsn,
            "INSERT INTO users (username, email, oauth_provider, oauth_id, last_login_at)"
            " VALUES (%s, %s, 'openshift', %s, now())",
            self.email,
            self.email,
            str(uuid.uuid4()),
        )
        for model in ("gone", "back", "twin"):
            self.sql(self.dsn, "INSERT INTO models (id, name, provider) VALUES (%s, %s, 'openai')", *[name + model] * 2)
        # As the backend's own sync leaves it: no reason, no history.
        self.sql(
            self.dsn,
            "INSERT INTO subscriptions (user_id, model_id, status, quota_requests, quota_tokens)"
            " SELECT id, %s, 'inactive', 1, 1 FROM users WHERE email = %s",
            f"{name}back",
            self.email,
        )
        for alias, token, active in (("orphan", secrets.token_hex(32), True), ("alive", alive, False)):
            self.sql(
                self.dsn,
                "INSERT INTO api_keys (user_id, name, key_hash, key_prefix, lite_llm_key_value, litellm_key_alias,"
                " is_active, revoked_at) SELECT id, 'k', %s, 'sk-', 'sk-never-to-be-seen', %s, %s, %s"
                " FROM users WHERE email = %s",
                token,
                name + alias,
                active,
                None if active else "2026-01-01",
                self.email,
            )

    def sql(self, dsn: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = harness.connect(dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def secrets(self) -> set[str]:
        """What nobody may see."""
        listed = self.namespace.core.list_namespaced_secret(self.namespace.name).items
        ours = [one.data or {} for one in listed if one.type == "Opaque"]
        values = {base64.b64decode(value).decode() for data in ours for value in data.values()}
        keys = [json.loads(one) for one in values if one.startswith("{")]
        values |= {line for key in keys for line in [key["private_key_id"], *key["private_key"].splitlines()[1:-1]]}
        return {one for one in values if len(one) > 12} | {"sk-never-to-be-seen"}


@pytest.fixture(scope="module")
def site(
    stack: harness.Stack,
    litellm: harness.LiteLLM,
    lab_model: str,
    kubeconfig: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    name = f"t{secrets.token_hex(4)}-litemaas"
    with Backend() as backend, proxies.database(stack.litellm_dsn) as dsn, cluster.Namespace(stack, name) as namespace:
        found = Site(stack, litellm, namespace, dsn, backend)
        try:
            found.build(lab_model, Path(kubeconfig).parent / "secrets.json")
            runner = harness.Runner(stack, tmp_path_factory.mktemp("lab"))
            key = {"key_alias": f"virtkey-{found.guid}", "guid": found.guid, "models": [lab_model], "duration": "7d"}
            made = runner.module("litellm_virtual_key", key)
            assert not made.failed, made["msg"]
            yield found
        finally:
            litellm.remove(found.prefix)
            litellm.remove(f"virtkey-{found.guid}")


@dataclass
class Runs:
    """Every command that is run here, by its words."""

    site: Site
    folder: Path
    done: dict[tuple[str, ...], harness.PlaybookResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """What the commands find beside them."""
        for name in ("backups", "cwd"):
            (self.folder / name).mkdir()
        model = {
            "model_name": f"{self.site.prefix}new",
            "litellm_model": "openai/demo-chat",
            "api_key": "sk-placeholder",
        }
        model["api_base"] = f"{self.site.stack.upstream_url}/v1"
        files = {
            "models.yml": {"ocp4_workload_litemaas_models_list": [model]},
            "vertex.yml": yaml.safe_load((DOCS / "examples" / "vertex.yml").read_text(encoding="utf-8")),
        }
        for name in ("open", "claude"):
            files["vertex.yml"].pop(f"{VERTEX}{name}_key_file")
            files["vertex.yml"].pop(f"{VERTEX}{name}_email")
        for name, content in files.items():
            (self.folder / "cwd" / name).write_text(yaml.safe_dump(content), encoding="utf-8")
        # Another host's folders, and what stands in the documents for something of the reader's.
        host = Bastion(self.folder, harness.Runner(self.site.stack, self.folder), self.site.prefix)
        given = {
            **host.variables,
            f"{KEYS}models": [self.site.model],
            f"{VERTEX}probe": "skip",
            "output_dir": str(self.folder / "cwd"),
            "litemaas_url": f"http://127.0.0.1:{self.site.backend.server_address[1]}",
        }
        (self.folder / "given.json").write_text(json.dumps(given), encoding="utf-8")

    def translated(self, word: str) -> str:
        """What in the documents stands for something of the reader's."""
        for theirs, ours in (
            ("$NS", self.site.namespace.name),
            ("/srv/backups", str(self.folder / "backups")),
            ("abc12", self.site.guid),
            ("user@redhat.com", self.site.email),
        ):
            word = word.replace(theirs, ours)
        return word

    def meant(self, command: Command) -> tuple[str, ...]:
        """What is run: the same for several commands, where one is to be tried with ``--check`` before the other."""
        words = [self.translated(one) for one in command.words]
        return (*words, *["--check"] * (rule_of(command).check and "--check" not in words))

    def run(self, command: Command) -> None:
        rule = rule_of(command)
        words = list(self.meant(command))
        words[1:1] = ["--inventory", "localhost,", "--connection", "local", "-e", f"@{self.folder / 'given.json'}"]
        words += ["-e", json.dumps(rule.given)] * bool(rule.given)
        place = self.folder / uuid.uuid4().hex
        place.mkdir()
        runner = harness.Runner(self.site.stack, place)
        unset = dict.fromkeys(
            ("LITELLM_URL", "LITELLM_MASTER_KEY", "LITELLM_KEY_SECRET", "LITEMAAS_DSN", "LITELLM_DSN"), ""
        )
        env = {**runner.environment(), **unset, "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
        env.pop("REDIS_URL", None)
        env["PWD"] = str(self.folder / "cwd")
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            stdin=subprocess.DEVNULL,
            cwd=self.folder / "cwd",
            env=env,
        )
        self.done[self.meant(command)] = harness.PlaybookResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def runs(site: Site, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Runs:
    """What came of those that are asked for, and of what stands in one lane with them."""
    items = [one for one in request.session.items if isinstance(one, pytest.Function) and one.module is request.module]
    asked = [one.callspec.params["command"] for one in items if one.function is test_commands_do_what_is_said]
    if any(one.function is test_what_was_wrong_is_mended for one in items):
        asked = everything()
    found = Runs(site, tmp_path_factory.mktemp("docs"))
    lanes: dict[str, list[Command]] = {}
    for command in {found.meant(one): one for one in reversed(everything())}.values():
        if not rule_of(command).elsewhere:
            lanes.setdefault(rule_of(command).lane, []).insert(0, command)
    wanted = {found.meant(one) for one in asked}
    lanes[""] = [one for one in lanes[""] if found.meant(one) in wanted]
    lanes = {name: lane for name, lane in lanes.items() if wanted & {found.meant(one) for one in lane}}

    def one_after_the_other(commands: list[Command]) -> None:
        for one in commands:
            found.run(one)

    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        list(pool.map(found.run, lanes.pop("", [])))
        list(pool.map(one_after_the_other, lanes.values()))
    return found


@pytest.mark.parametrize("command", everything(), ids=lambda command: command.short)
def test_commands_do_what_is_said(runs: Runs, command: Command) -> None:
    rule = rule_of(command)
    if rule.elsewhere:
        path, _colons, name = rule.elsewhere.partition("::")
        assert f"def {name}(" in (harness.CHECKOUT / path).read_text(encoding="utf-8"), rule.elsewhere
        return
    done = runs.done[runs.meant(command)]
    assert done.rc == rule.rc, done.output
    assert rule.says in done.output, done.output
    assert "Traceback" not in done.output, done.output
    assert not [one for one in runs.site.secrets() if one in done.output]


def test_what_was_wrong_is_mended(runs: Runs) -> None:
    """Not by what the commands say of themselves."""
    site, name = runs.site, runs.site.prefix
    models = dict(site.sql(site.dsn, "SELECT id, availability FROM models WHERE starts_with(id, %s)", name))
    assert models == {f"{name}gone": "unavailable", f"{name}back": "available", f"{name}twin": "available"}
    assert site.sql(site.dsn, "SELECT availability FROM models WHERE id = %s", site.model) == [("available",)]
    assert site.sql(site.dsn, "SELECT status FROM subscriptions") == [("active",)]
    rows = "SELECT litellm_key_alias, is_active, sync_status FROM api_keys ORDER BY 1"
    assert (f"{name}orphan", False, "error") in site.sql(site.dsn, rows)
    assert not site.litellm.keys(name)
    assert site.litellm.keys(f"virtkey-{site.guid}")[0]["rpm_limit"] == 120
    assert site.sql(site.dsn, "SELECT roles FROM users WHERE email = %s", site.email) == [(["admin", "user"],)]
    backend = site.namespace.dynamic.resources.get(api_version="apps/v1", kind="Deployment").get(
        name="litellm-backend", namespace=site.namespace.name
    )
    env = {one.name: one.value for one in backend.spec.template.spec.containers[0].env}
    assert env["LITELLM_AUTO_SYNC"] == "true" and backend.spec.replicas == 3
    file = runs.folder / "cwd" / "litemaas.env"
    assert site.stack.master_key in file.read_text(encoding="utf-8") and file.stat().st_mode & 0o777 == 0o600
