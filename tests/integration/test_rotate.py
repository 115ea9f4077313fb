# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another master key on a real proxy, another password on a real PostgreSQL, and runs that end half-way."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, operate, rotation
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import secrets as stored
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.tests.integration import harness, operatelab, proxies
from ansible_collections.rhpds.litemaas.tests.integration.kube import Namespace, eventually

PARTS = ("litellm", "litellm-backend")
URLS = (stored.URL, stored.LITELLM_URL)
#: What LiteMaaS's backend does with a stored key, on the command line: the secret, then what is stored or to be.
NODE = """
const crypto = require('crypto'), [verb, secret, text] = process.argv.slice(1)
const key = crypto.createHash('sha256').update(secret).digest()
if (verb === 'encrypt') {
  const iv = crypto.randomBytes(12), cipher = crypto.createCipheriv('aes-256-gcm', key, iv)
  const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  process.stdout.write(Buffer.concat([iv, body, cipher.getAuthTag()]).toString('base64'))
} else {
  const data = Buffer.from(text, 'base64')
  const decipher = crypto.createDecipheriv('aes-256-gcm', key, data.subarray(0, 12))
  decipher.setAuthTag(data.subarray(-16))
  process.stdout.write(decipher.update(data.subarray(12, -16)) + decipher.final('utf8'))
}
"""


def superuser(stack: harness.Stack) -> str:
    """The DSN of PostgreSQL's own superuser."""
    folder = Path(os.environ.get("STACK_DIR") or harness.CHECKOUT / ".stack")
    password = json.loads((folder / "secrets.json").read_text(encoding="utf-8"))["secrets"]["password_postgres"]
    parts = urllib.parse.urlsplit(stack.litellm_dsn)
    return f"postgresql://postgres:{password}@{parts.hostname}:{parts.port}/postgres"


@pytest.fixture
def database(stack: harness.Stack) -> Iterator[str]:
    """A role whose password may change, and its database."""
    with operatelab.role(superuser(stack), f"t{secrets.token_hex(4)}", "first-password-of-a-test") as dsn:
        yield dsn


@pytest.fixture
def lab(place: Namespace, database: str) -> operatelab.Lab:
    """LiteLLM, the backend and PostgreSQL, on that database, as a deploy has made them: with its checksums."""
    lab = operatelab.Lab(place)
    lab.config()
    lab.secrets(database, database, LITELLM_MASTER_KEY="sk-old-master-key-of-a-test", LITELLM_SALT_KEY="sk-salt-key-1")
    lab.postgres(database)
    values = {name: stored.decoded(place.get("Secret", name)) for name in stored.NAMES}
    sums = stored.checksums(values)
    for name, part, config in (("litellm", "litellm", operatelab.CONFIG), ("litellm-backend", "backend", "")):
        mark = {rotation.CHECKSUM: rotation._digest(sums[part] + config)}
        lab.deploy(lab.definition(name, annotations=mark))
    lab.ready("litellm-postgres", *PARTS)
    return lab


def runner_of(lab: operatelab.Lab) -> tuple[operate.Operator, discover.Namespace]:
    cluster = Cluster(kubeconfig=lab.place.kube.kubeconfig)
    operator = operate.Operator(cluster.rest(), lab.place.name, timeout=30, poll=0.2, pull_failure_after=1)
    return operator, discover.Namespace(cluster, lab.place.name)


def rotation_of(lab: operatelab.Lab) -> rotation.DatabasePassword:
    return rotation.DatabasePassword(*runner_of(lab))


def lets_in(dsn: str, password: str) -> bool:
    try:
        psycopg2.connect(dsn, password=password).close()
    except psycopg2.OperationalError:
        return False
    return True


Node = Callable[[str, str, str], str]


@pytest.fixture(scope="session")
def node(stack: harness.Stack) -> Node:
    """``node(verb, secret, text)``: encrypt or decrypt as the backend does it; "" where that secret doesn't open it."""
    binary = proxies.installed(stack.variables["LITELLM_VERSION"]).node.binary

    def run(*args: str) -> str:
        return subprocess.run([binary, "-e", NODE, "--", *args], capture_output=True, text=True, check=False).stdout

    return run


def stored_keys(dsn: str) -> dict[str, str]:
    """LiteMaaS's test keys of models as they are stored."""
    connection = harness.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, encrypted_api_key FROM models WHERE encrypted_api_key IS NOT NULL")
            return dict(cursor.fetchall())
    finally:
        connection.close()


def execute(dsn: str, statement: str, *values: Any) -> None:
    connection = harness.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
    connection.close()


def other_columns(dsn: str) -> list[Any]:
    """The catalogue without those keys, and without when a row was changed."""
    connection = harness.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_jsonb(m) - 'encrypted_api_key' - 'updated_at' FROM models m ORDER BY id")
        found = cursor.fetchall()
    connection.close()
    return found


class Killed(Exception):
    """The end of a run, at a moment of the test's choice."""


@contextmanager
def killed_at(run: rotation.Rotation, write: int) -> Iterator[None]:
    """The run ends before its n-th write, counted over Secrets, workloads, roles and rows."""
    done = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if not kwargs.get("dry_run") and not kwargs.get("rehearse"):
                done += 1
                if done == write:
                    raise Killed
            return function(*args, **kwargs)

        return call

    run.vault.write = counting(run.vault.write)  # type: ignore[method-assign]
    run.operator.write = counting(run.operator.write)  # type: ignore[method-assign]
    if isinstance(run, rotation.DatabasePassword):
        run._alter = counting(run._alter)  # type: ignore[method-assign]
    if isinstance(run, rotation.MasterKey):
        run._encrypt_anew = counting(run._encrypt_anew)  # type: ignore[method-assign]
    try:
        yield
    except Killed:
        return
    raise AssertionError(f"the run made {done} writes, and was to be killed before number {write}")


# ---- the database's password ----


def test_a_database_password_is_rotated_and_a_deploy_has_nothing_to_do(
    lab: operatelab.Lab, database: str, run_playbook: Callable[..., harness.PlaybookResult]
) -> None:
    old = lab.place.values("litemaas-db") or {}
    planned = run_playbook("rhpds.litemaas.rotate_database_password", {"namespace": lab.place.name}, check=True)
    assert planned.rc == 0 and planned.changed == 1 and "would be rotated" in planned.output, planned.output
    assert lab.place.values("litemaas-db") == old and lets_in(database, old["password"])
    new = "second/password of a test?"
    values, env = {"namespace": lab.place.name}, {"LITEMAAS_NEW_DATABASE_PASSWORD": new}
    done = run_playbook("rhpds.litemaas.rotate_database_password", values, env=env, verbosity=3)
    assert done.rc == 0 and done.changed == 1, done.output
    assert "litellm-postgres, litellm, litellm-backend rolled out" in done.output
    assert "lets the new password in, and no other" in done.output
    assert new not in done.output and old["password"] not in done.output
    assert lets_in(database, new) and not lets_in(database, old["password"])
    there = lab.place.values("litemaas-db") or {}
    assert there["password"] == new and rotation.NEXT not in there
    assert stored.Address.of(there["LITELLM_DATABASE_URL"]).password == new
    assert there["DATABASE_URL"].endswith("?sslmode=disable")
    # What a deploy would roll pods out for agrees with the Secrets.
    sums = stored.checksums({name: stored.decoded(lab.place.get("Secret", name)) for name in stored.NAMES})
    marks = {name: lab.live(name)["spec"]["template"]["metadata"]["annotations"] for name in PARTS}
    assert marks["litellm"][rotation.CHECKSUM] == rotation._digest(sums["litellm"] + operatelab.CONFIG)
    assert marks["litellm-backend"][rotation.CHECKSUM] == rotation._digest(sums["backend"])
    again = run_playbook("rhpds.litemaas.rotate_database_password", values, env=env)
    assert again.rc == 0 and again.changed == 0 and "is given already" in again.output, again.output


def test_a_password_rotation_that_is_killed_anywhere_is_gone_on_with(lab: operatelab.Lab, database: str) -> None:
    """Whatever it had done by then, somebody knows the password, and the next run ends it."""
    # Secret, role twice, Secret, three workloads, Secret.
    for write in range(1, 9):
        before = (lab.place.values("litemaas-db") or {})["password"]
        run = rotation_of(lab)
        with killed_at(run, write):
            run.run()
        there = lab.place.values("litemaas-db") or {}
        known = [there[key] for key in ("password", rotation.NEXT) if key in there]
        assert any(lets_in(database, one) for one in known), f"killed at {write}, nobody knows the password"
        done = rotation_of(lab).run()
        assert done.changed and done.resumed == (write > 1), write
        after = lab.place.values("litemaas-db") or {}
        assert rotation.NEXT not in after and after["password"] != before
        if rotation.NEXT in there:
            assert after["password"] == there[rotation.NEXT], "another password than the one it had begun with"
        assert lets_in(database, after["password"]) and not lets_in(database, before)
        assert {stored.Address.of(after[key]).password for key in (stored.URL, stored.LITELLM_URL)} == {
            after["password"]
        }


def test_a_database_outside_of_the_cluster_too(lab: operatelab.Lab, database: str) -> None:
    old = urllib.parse.urlsplit(database).password
    urls = {
        key: base64.b64encode(f"{database}?sslmode=disable".encode()).decode()
        for key in (stored.URL, stored.LITELLM_URL)
    }
    lab.place.patch("Secret", "litemaas-db", {"data": urls})
    lab.place.delete("Service", "litellm-postgres")
    done = rotation_of(lab).run()
    assert done.changed and "lets the new password in, and no other" in done.verified[0]
    new = (lab.place.values("litemaas-db") or {})["password"]
    assert lets_in(database, new) and not lets_in(database, str(old))


def test_a_database_that_does_not_answer_changes_nothing(lab: operatelab.Lab, database: str) -> None:
    old = lab.place.values("litemaas-db")
    wrong = base64.b64encode(b"postgresql://u:wrong-password@127.0.0.1:1/x").decode()
    lab.place.patch("Secret", "litemaas-db", {"data": {stored.URL: wrong}})
    with pytest.raises(ClusterError, match="Nothing was changed"):
        rotation_of(lab).run()
    assert rotation.NEXT not in (lab.place.values("litemaas-db") or {})
    assert lets_in(database, (old or {})["password"])


def test_a_secret_that_the_database_does_not_take_is_healed_through_its_pod(
    lab: operatelab.Lab, database: str, stack: harness.Stack
) -> None:
    """Killed by hand or restored, they differ: the pod's superuser sets the Secret's, or a new one."""
    of_secret = "the-password-of-the-Secret"
    path = lab.place.path("StatefulSet", "litellm-postgres")
    urls = {key: operatelab.inside(database).replace("first-password-of-a-test", of_secret) for key in URLS}
    values = {"password": of_secret, **urls}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    lab.place.patch("Secret", "litemaas-db", {"data": data})
    # Nobody is let in by this pod's superuser.
    with pytest.raises(ClusterError, match=r"no superuser is let in there.*Nothing was changed") as refused:
        rotation_of(lab).run()
    assert of_secret not in str(refused.value)
    assert rotation.NEXT not in (lab.place.values("litemaas-db") or {})
    marks = {"fakenode/env": json.dumps({"PGPASSWORD": urllib.parse.urlsplit(superuser(stack)).password})}
    lab.place.kube.call(
        "PATCH",
        path,
        {"spec": {"template": {"metadata": {"annotations": marks}}}},
        "application/merge-patch+json",
    )
    pod = f"api/v1/namespaces/{lab.place.name}/pods/litellm-postgres-0"
    eventually(lambda: "fakenode/env" in (lab.place.kube.call("GET", pod) or {}).get("metadata", {})["annotations"])
    lab.ready("litellm-postgres")
    planned = rotation_of(lab).run(of_secret, check=True)
    assert planned.changed and f"pod {lab.place.name}/litellm-postgres-0" in planned.notes[0]
    assert lets_in(database, "first-password-of-a-test") and not lets_in(database, of_secret)
    # The Secret's own, then again, then a new one while they differ once more.
    done = rotation_of(lab).run(of_secret)
    assert done.changed and lets_in(database, of_secret) and "refused the password" in done.notes[0]
    assert not rotation_of(lab).run(of_secret).changed
    connection = harness.connect(superuser(stack))
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE \"{urllib.parse.urlsplit(database).username}\" PASSWORD 'of nobody'")
    connection.close()
    assert not lets_in(database, of_secret)
    assert rotation_of(lab).run().changed
    there = lab.place.values("litemaas-db") or {}
    assert there["password"] != of_secret and lets_in(database, there["password"])


def test_a_database_elsewhere_that_refuses_says_the_way_on(lab: operatelab.Lab, database: str) -> None:
    wrong = database.replace("first-password-of-a-test", "another-password-there")
    data = {key: base64.b64encode(wrong.encode()).decode() for key in URLS}
    lab.place.patch("Secret", "litemaas-db", {"data": data})
    with pytest.raises(ClusterError, match=r"not in this cluster.*ALTER ROLE.*Put it right and run again") as refused:
        rotation_of(lab).run()
    assert "Nothing was changed" in str(refused.value) and "another-password-there" not in str(refused.value)


# ---- the master key ----


class Proxy:
    """A LiteLLM whose environment is what its pods would get out of the Secret, restarted when they are rolled out."""

    def __init__(self, lab: operatelab.Lab, replica: proxies.Replica, gate: proxies.Gate, dsn: str) -> None:
        self.lab, self.replica, self.gate, self.dsn = lab, replica, gate, dsn
        self.url = f"http://127.0.0.1:{gate.port}"
        self.starts = 0

    def start(self) -> None:
        values = self.lab.place.values("litellm-secret") or {}
        wired = {one["name"] for one in self.lab.live("litellm")["spec"]["template"]["spec"]["containers"][0]["env"]}
        for name in ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY"):
            self.replica._env.pop(name, None)
            if name in values and name in wired:
                self.replica._env[name] = values[name]
        self.replica.stop()
        self.gate._end_all()
        self.replica.start()
        self.replica.wait()
        self.gate._target = ("127.0.0.1", self.replica.port)
        self.starts += 1

    @contextmanager
    def following(self) -> Iterator[None]:
        """Restarts with each new revision of the Deployment, as the cluster would do with its pods.

        In one thread for all of the test: the proxy ends with the thread that started it.
        """
        ended, revision = threading.Event(), self.generation()

        def follow() -> None:
            nonlocal revision
            while not ended.wait(0.2):
                now = self.generation()
                if now != revision:
                    revision = now
                    self.start()

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def generation(self) -> int:
        return int(self.lab.live("litellm")["metadata"]["generation"])


@pytest.fixture
def proxy(stack: harness.Stack, place: Namespace, tmp_path: Path) -> Iterator[Proxy]:
    """An older deployment's: no salt key in its Secret, and none in its environment."""
    litellm = proxies.installed(stack.variables["LITELLM_VERSION"])
    lab = operatelab.Lab(place)
    lab.config()
    with proxies.database(stack.litellm_dsn) as dsn:
        proxies.migrate(litellm, dsn, tmp_path, views=False)
        # One database for both, with LiteMaaS's own tables.
        execute(dsn, (harness.CHECKOUT / "tests/stack/litemaas_schema.sql").read_text(encoding="utf-8"))
        lab.secrets(dsn, dsn, LITELLM_MASTER_KEY="sk-old-master-key-of-a-test")
        lab.postgres(dsn)
        older = lab.definition("litellm")
        (container,) = older["spec"]["template"]["spec"]["containers"]
        container["env"] = [one for one in container["env"] if one["name"] != "LITELLM_SALT_KEY"]
        lab.deploy(older, lab.definition("litellm-backend"))
        lab.ready("litellm-postgres", *PARTS)
        engine = proxies.provision.write_engine_launcher(tmp_path / "query-engine", litellm.node, litellm.engine)
        env = proxies.stack_proxy.environment(tmp_path, engine, dsn, "", "")
        replica = proxies.Replica(1, litellm, tmp_path, env, tmp_path / "litellm.log")
        replica.config = proxies.render({})
        with proxies.Gate("127.0.0.1", 1) as gate:
            found = Proxy(lab, replica, gate, dsn)
            found.start()
            yield found
            replica.stop()


def test_models_survive_another_master_key(
    proxy: Proxy, stack: harness.Stack, run_module: Callable[..., harness.ModuleResult], node: Node
) -> None:
    """No salt key before; the first run ends half-way; the second one goes on with the same new key."""
    lab, old = proxy.lab, "sk-old-master-key-of-a-test"
    theirs = node("encrypt", "of something else", "sk-upstream")
    rows = {"ours": node("encrypt", old, "sk-upstream-ä"), "foreign": theirs, "none": ""}
    for row in rows.items():
        execute(proxy.dsn, "INSERT INTO models (id, encrypted_api_key, name, provider) VALUES (%s, %s, 'n', 'p')", *row)
    others = other_columns(proxy.dsn)
    admin = harness.LiteLLM(proxy.url, old, stack.litellm_dsn)
    params = {"model": "openai/needs-key", "api_base": f"{stack.upstream_url}/v1", "api_key": "sk-upstream-test"}
    admin.post("/model/new", model_name="chat", litellm_params=params, model_info={})
    key = str(admin.post("/key/generate", models=["chat"])["key"])
    eventually(lambda: admin.chat("chat", key)[0] == 200)
    operator, place = runner_of(lab)
    args = {
        "namespace": lab.place.name,
        "what": "master_key",
        "litellm_url": proxy.url,
        "cluster": {"kubeconfig": lab.place.kube.kubeconfig},
        "retry_count": 0,
        "rollout_timeout": 120,
    }
    planned = run_module("litemaas_rotate", args, check=True)
    assert planned.changed and planned["restarted"] == ["litellm", "litellm-backend"], planned
    assert "1 test key of models would be encrypted anew" in planned["msg"] and planned["model_keys"] == 1
    assert planned["unreadable_model_keys"] == ["foreign"], planned
    assert lab.place.values("litellm-secret") == {"LITELLM_MASTER_KEY": old} and stored_keys(proxy.dsn) == rows
    # Killed after the salt key was wired and the new key written, before anything was rolled out with it.
    run = rotation.MasterKey(operator, place, lambda one: LiteLLMClient(proxy.url, one, retries=0))
    with killed_at(run, 4):
        run.run()
    half = lab.place.values("litellm-secret") or {}
    assert half["LITELLM_SALT_KEY"] == half[rotation.PREVIOUS] == old != half["LITELLM_MASTER_KEY"]
    with proxy.following():
        done = run_module("litemaas_rotate", args)
        assert not done.failed and done.changed and done["resumed"], done
        there = lab.place.values("litellm-secret") or {}
        new = there["LITELLM_MASTER_KEY"]
        assert there == {"LITELLM_MASTER_KEY": half["LITELLM_MASTER_KEY"], "LITELLM_SALT_KEY": old}
        assert proxy.starts == 2 and done["restarted"] == ["litellm", "litellm-backend"]
        assert old not in str(done) and new not in str(done)
        assert "AgnosticV" in done["msg"] and done["verified"][:2] == [
            "every stored model is listed",
            "the old key is refused",
        ]
        assert "1 test key of models encrypted anew" in done["msg"] and "test keys of foreign are" in done["msg"]
        assert done["model_keys"] == 1 and done["unreadable_model_keys"] == ["foreign"]
        assert node("decrypt", new, stored_keys(proxy.dsn)["ours"]) == "sk-upstream-ä"
        # The proof, apart from the code under test.
        after = harness.LiteLLM(proxy.url, new, stack.litellm_dsn)
        assert after.chat("chat", key)[0] == 200 and after.chat("chat", new)[0] == 200
        assert after.request("GET", "/model/info", key=old)[0] in (400, 401)
        # Once more, from a deployment with a salt key, and not interrupted: the probe's key is gone afterwards.
        again = run_module("litemaas_rotate", {**args, "new_value": "sk-third-master-key-of-a-test"})
        assert not again.failed and not again["resumed"], again
        assert "a virtual key from before works" in again["verified"] and "chat answers" in again["verified"], again
        assert again["model_keys"] == 1 and again["unreadable_model_keys"] == ["foreign"]
        third = harness.LiteLLM(proxy.url, "sk-third-master-key-of-a-test", stack.litellm_dsn)
        assert third.chat("chat", key)[0] == 200
        aliases = [one.get("key_alias") for one in third.get("/key/list", return_full_object="true", size=100)["keys"]]
        assert not [one for one in aliases if one and one.startswith(rotation.PROBE)]
    same = run_module("litemaas_rotate", {**args, "new_value": "sk-third-master-key-of-a-test"})
    assert not same.failed and not same.changed and same["model_keys"] == 0
    left = stored_keys(proxy.dsn)
    assert node("decrypt", "sk-third-master-key-of-a-test", left["ours"]) == "sk-upstream-ä"
    assert left == {**rows, "ours": left["ours"]}
    assert other_columns(proxy.dsn) == others


def test_a_proxy_that_does_not_take_the_key_changes_nothing(lab: operatelab.Lab, litellm: harness.LiteLLM) -> None:
    """The stack's own proxy, which has another master key."""
    operator, place = runner_of(lab)
    before = lab.place.values("litellm-secret")
    run = rotation.MasterKey(operator, place, lambda key: LiteLLMClient(litellm.url, key, retries=0))
    with pytest.raises(ClusterError, match="Nothing was changed"):
        run.run()
    assert lab.place.values("litellm-secret") == before and lab.revision("litellm") == "1"


def test_a_master_key_from_elsewhere_is_refused(lab: operatelab.Lab) -> None:
    plain = {"name": "LITELLM_MASTER_KEY", "value": "sk-plain", "valueFrom": None}
    body = {"spec": {"template": {"spec": {"containers": [{"name": "litellm", "env": [plain]}]}}}}
    lab.place.patch("Deployment", "litellm", body, content=operate.PATCH)
    operator, place = runner_of(lab)
    before = lab.place.values("litellm-secret")
    with pytest.raises(ClusterError, match="from its Deployment itself, not from Secret litellm-secret"):
        rotation.MasterKey(operator, place, lambda key: LiteLLMClient("http://127.0.0.1:1", key)).run()
    assert lab.place.values("litellm-secret") == before


def test_the_backends_own_copies_of_the_key_are_brought_along_wherever_a_run_is_killed(
    lab: operatelab.Lab, database: str, node: Node
) -> None:
    """Both of its variables, and what it has encrypted with the key: somebody can read that at any moment."""
    key = "sk-old-master-key-of-a-test"
    lab.place.secret("other-secret", KEY=key)
    env = [
        {"name": "LITELLM_MASTER_KEY", "value": key},
        {"name": "LITELLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "other-secret", "key": "KEY"}}},
    ]
    body = {"spec": {"template": {"spec": {"containers": [{"name": "backend", "env": env}]}}}}
    lab.place.patch("Deployment", "litellm-backend", body, content=operate.PATCH)
    execute(database, "CREATE TABLE models (id varchar(255) PRIMARY KEY, encrypted_api_key text)")
    execute(database, "INSERT INTO models VALUES ('chat', %s)", node("encrypt", key, "sk-upstream"))

    def started() -> rotation.MasterKey:
        operator, place = runner_of(lab)
        return rotation.MasterKey(
            operator, place, lambda one: LiteLLMClient("http://127.0.0.1:1", one), verify=False, sleep=lambda _s: None
        )

    def reads() -> list[bool]:
        values = lab.place.values("litellm-secret") or {}
        return [
            node("decrypt", values.get(one, ""), stored_keys(database)["chat"]) == "sk-upstream"
            for one in ("LITELLM_MASTER_KEY", rotation.PREVIOUS)
        ]

    # Secret and LiteLLM, as in the test before; the other Secret, backend, rows, Secret.
    for write in range(3, 7):
        run = started()
        with killed_at(run, write):
            run.run()
        assert any(reads()), f"killed at {write}, nobody can read the key"
        before = lab.live("litellm-backend")["metadata"]["generation"]
        done = started().run()
        assert done.changed and done.resumed and done.restarted == ["litellm", "litellm-backend"], write
        assert done.model_keys == (write < 6) and not done.unreadable and reads() == [True, False], write
        assert lab.live("litellm-backend")["metadata"]["generation"] > before, write
        new = (lab.place.values("litellm-secret") or {})["LITELLM_MASTER_KEY"]
        assert lab.place.values("litellm-secret") == {"LITELLM_MASTER_KEY": new, "LITELLM_SALT_KEY": "sk-salt-key-1"}
        assert lab.place.values("other-secret") == {"KEY": new}
        (container,) = lab.live("litellm-backend")["spec"]["template"]["spec"]["containers"]
        assert operatelab.reference("LITELLM_MASTER_KEY", "litellm-secret", "LITELLM_MASTER_KEY") in container["env"]
        assert env[1] in container["env"]
    # Rows of an older database, which somebody has restored: with the master key of then as the previous one.
    execute(database, "UPDATE models SET encrypted_api_key = %s", node("encrypt", key, "sk-upstream"))
    lab.place.patch("Secret", "litellm-secret", {"stringData": {rotation.PREVIOUS: key}})
    done = started().run()
    assert done.resumed and done.model_keys == 1 and reads() == [True, False]
    assert lab.place.values("litellm-secret") == {"LITELLM_MASTER_KEY": new, "LITELLM_SALT_KEY": "sk-salt-key-1"}
    # Who must not write the rows hears it before anything is changed, or gives them up.
    execute(database, "REVOKE UPDATE ON models FROM CURRENT_USER")
    strict = started()
    strict.verify = True
    with pytest.raises(ClusterError, match=r"still has the old master key.* with verify=false"):
        strict.run()
    given = "sk-other-master-key-of-a-test"
    given_up = started().run(given)
    assert given_up.model_keys == 0 and "test keys of models, if it has any, are not" in given_up.notes[0]
    execute(database, "GRANT UPDATE ON models TO CURRENT_USER")
    execute(database, "UPDATE models SET encrypted_api_key = %s", node("encrypt", given, "sk-upstream"))
    # What a backend with a key of its own has encrypted is left alone, though the master key would open it.
    own = {**env[0], "value": "sk-key-of-its-own", "valueFrom": None}
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [own]
    lab.place.patch("Deployment", "litellm-backend", body, content=operate.PATCH)
    there = stored_keys(database)
    done = started().run("sk-new-master-key-of-a-test")
    assert done.changed and not done.model_keys and stored_keys(database) == there
    assert lab.place.values("other-secret") == {"KEY": "sk-new-master-key-of-a-test"}


def test_a_rollout_that_fails_says_what_the_secret_has(lab: operatelab.Lab) -> None:
    lab.faults(json.dumps({"litellm-*": {"not-ready": "starts"}}))
    operator, place = runner_of(lab)
    operator.timeout = 3
    proxy = "http://127.0.0.1:1"
    run = rotation.MasterKey(operator, place, lambda key: LiteLLMClient(proxy, key), verify=False)
    with pytest.raises(ClusterError) as failure:
        run.run("sk-new-master-key-of-a-test")
    assert f"has the new master key, the old one as {rotation.PREVIOUS}" in str(failure.value)
    assert "goes on with the same new key" in str(failure.value) and "sk-" not in str(failure.value)
    assert "What was applied stays" not in str(failure.value)
    assert failure.value.changes, "the Secret was written"
    lab.faults("")
    operator, place = runner_of(lab)
    done = rotation.MasterKey(operator, place, lambda key: LiteLLMClient(proxy, key), verify=False).run()
    assert done.resumed and (lab.place.values("litellm-secret") or {}) == {
        "LITELLM_MASTER_KEY": "sk-new-master-key-of-a-test",
        "LITELLM_SALT_KEY": "sk-salt-key-1",
    }
