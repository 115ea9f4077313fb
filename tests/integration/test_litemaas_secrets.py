# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litemaas_secrets against a real API server: what is kept, what is made, what is refused, and what is never shown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2
import psycopg2.extensions
import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.kube import Kube, Namespace, eventually

MODULE = "litemaas_secrets"
NAMES = ("litemaas-db", "litellm-secret", "backend-secret", "litellm-redis", "litellm-key-derivation")
ODD = "p@ss/w:o%rd #ü?"


class Runs:
    def __init__(self, runner: harness.Runner, place: Namespace) -> None:
        self.runner, self.place = runner, place

    def any(self, check: bool = False, **options: Any) -> harness.ModuleResult:
        args = {"kubeconfig": self.place.kube.kubeconfig, "namespace": self.place.name, **options}
        return self.runner.module(MODULE, args, check=check, diff=True)

    def __call__(self, check: bool = False, **options: Any) -> harness.ModuleResult:
        result = self.any(check, **options)
        assert not result.failed, result["msg"]
        for name in NAMES:
            for key, value in (self.place.values(name) or {}).items():
                if key not in ("username", "database", "litellm_database", "host", "port", "UI_USERNAME"):
                    assert value not in str(result), key
        return result

    def refused(self, **options: Any) -> str:
        before = {name: self.place.get("Secret", name) for name in NAMES}
        result = self.any(**options)
        assert result.failed and {name: self.place.get("Secret", name) for name in NAMES} == before
        return str(result["msg"])


@pytest.fixture
def run(runner: harness.Runner, place: Namespace) -> Runs:
    return Runs(runner, place)


def values(place: Namespace, name: str) -> dict[str, str]:
    found = place.values(name)
    assert found is not None, name
    return found


def entry(result: harness.ModuleResult, name: str) -> dict[str, Any]:
    (found,) = (one for one in result["results"] if one["name"] == name)
    return found


def volume(place: Namespace) -> None:
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    place.create("PersistentVolumeClaim", "data-litellm-postgres-0", spec={**size, "storageClassName": "standard"})


def test_everything_is_made_once_and_kept(run: Runs, place: Namespace) -> None:
    planned = run(check=True)
    assert planned.changed and not any(place.get("Secret", name) for name in NAMES)
    made = run()
    assert {one["name"]: one["action"] for one in made["results"]} == dict.fromkeys(NAMES, "create")
    assert [one["created"] for one in planned["results"]] == [one["created"] for one in made["results"]]
    before = {name: values(place, name) for name in NAMES}
    database, litellm = before["litemaas-db"], before["litellm-secret"]
    assert (database["database"], database["litellm_database"]) == ("litemaas_db", "litellm_db")
    assert litellm["LITELLM_MASTER_KEY"].startswith("sk-") and litellm["UI_USERNAME"] == "admin"
    assert litellm["LITELLM_SALT_KEY"] != litellm["LITELLM_MASTER_KEY"]
    assert before["backend-secret"]["ADMIN_API_KEY"].startswith("ltm_admin_")
    assert len(before["litellm-key-derivation"]["key_secret"]) >= 43
    assert "sslmode=disable" in database["DATABASE_URL"]
    labels = place.get("Secret", "litemaas-db")["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "rhpds.litemaas"
    for check in (False, True):
        again = run(check=check)
        assert not again.changed and again["checksums"] == made["checksums"] and again["diff"]["after"] == ""
    assert {name: values(place, name) for name in NAMES} == before


def test_odd_characters_survive_in_the_url_and_reach_the_real_database(
    run: Runs, place: Namespace, stack: harness.Stack
) -> None:
    real = urlsplit(stack.litemaas_dsn)
    run(database={"username": "us er", "password": ODD, "litellm_params": {"connection_limit": 10}})
    found = values(place, "litemaas-db")
    parts = psycopg2.extensions.parse_dsn(found["DATABASE_URL"])
    assert (parts["user"], parts["password"], parts["host"]) == ("us er", ODD, "litellm-postgres")
    url = urlsplit(found["LITELLM_DATABASE_URL"])
    assert unquote(str(url.password)) == ODD and url.query == "sslmode=disable&connection_limit=10"
    external = {
        "host": real.hostname,
        "port": real.port,
        "username": real.username,
        "password": unquote(str(real.password)),
        "litemaas": real.path.lstrip("/"),
    }
    changed = run(database=external)
    assert set(entry(changed, "litemaas-db")["updated"]) >= {"DATABASE_URL", "password", "username"}
    psycopg2.connect(values(place, "litemaas-db")["DATABASE_URL"]).close()
    assert not run(database=external).changed


def test_a_deployment_without_salt_key_gets_its_master_key_for_one(run: Runs, place: Namespace) -> None:
    volume(place)
    place.deployment("litellm")
    place.secret(
        "litemaas-db",
        username="litellm",
        password="old-password",
        database="litellm",
        DATABASE_URL="postgresql://litellm:old-password@litellm-postgres:5432/litellm?sslmode=disable",
    )
    place.secret("litellm-secret", LITELLM_MASTER_KEY="sk-old-master-key", UI_USERNAME="boss", UI_PASSWORD="old-ui-pw")
    place.secret("backend-secret", JWT_SECRET="old-jwt-secret", ADMIN_API_KEY="ltm_admin_old", OTHER="foreign")
    result = run()
    litellm = values(place, "litellm-secret")
    assert litellm["LITELLM_SALT_KEY"] == litellm["LITELLM_MASTER_KEY"] == "sk-old-master-key"
    assert any("is the current master key" in one for one in result["notes"])
    assert litellm["UI_USERNAME"] == "boss" and entry(result, "litellm-secret")["adopted"]
    database = values(place, "litemaas-db")
    assert database["password"] == "old-password"
    # Both stores stay in the one database that they are in.
    assert database["litellm_database"] == "litellm" and database["LITELLM_DATABASE_URL"] == database["DATABASE_URL"]
    assert entry(result, "litemaas-db")["updated"] == []
    backend = values(place, "backend-secret")
    assert backend["OTHER"] == "foreign" and backend["JWT_SECRET"] == "old-jwt-secret"
    assert entry(result, "backend-secret")["created"] == ["OAUTH_CLIENT_SECRET"]
    assert not run().changed
    # A new master key doesn't take the salt key along.
    run(master_key="sk-new-master-key", update_secrets="always")
    litellm = values(place, "litellm-secret")
    assert (litellm["LITELLM_MASTER_KEY"], litellm["LITELLM_SALT_KEY"]) == ("sk-new-master-key", "sk-old-master-key")
    words = run.refused(salt_key="sk-another-salt-key", update_secrets="always")
    assert "can't be changed" in words and "sk-another-salt-key" not in words
    assert "(option database.litemaas) is litemaas_db" in run.refused(database={"litemaas": "litemaas_db"})


def test_keys_that_the_deployment_gets_from_elsewhere_are_found(run: Runs, place: Namespace) -> None:
    place.secret("keys", master="sk-from-elsewhere")
    env = [
        {"name": "LITELLM_MASTER_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "master"}}},
        {"name": "LITELLM_SALT_KEY", "value": "sk-literal-salt"},
    ]
    place.deployment("litellm", env=env)
    run()
    litellm = values(place, "litellm-secret")
    assert litellm["LITELLM_MASTER_KEY"] == "sk-from-elsewhere" and litellm["LITELLM_SALT_KEY"] == "sk-literal-salt"


def test_a_secret_half_there_beside_a_volume_is_refused_before_anything_is_written(run: Runs, place: Namespace) -> None:
    volume(place)
    place.secret("litemaas-db", username="litellm", password="")
    words = run.refused()
    assert "Nothing was written" in words and "Secret litemaas-db has no usable password" in words
    assert "data-litellm-postgres-0" in words and "litellm-secret has neither" in words
    assert "litemaas-db has no usable" not in run.refused(database={"password": "the-old-one"})
    run(database={"password": "the-old-one"}, master_key="sk-the-old-master-key")
    assert values(place, "litemaas-db")["password"] == "the-old-one"
    assert values(place, "litellm-secret")["LITELLM_SALT_KEY"] == "sk-the-old-master-key"


def test_a_password_is_found_in_the_url_and_urls_are_brought_in_line(run: Runs, place: Namespace) -> None:
    volume(place)
    place.secret("litellm-secret", LITELLM_MASTER_KEY="sk-old-master-key", LITELLM_SALT_KEY="sk-old-salt-key")
    url = "postgresql://litellm:in%2Furl@litellm-postgres.{}.svc:5432/litemaas_db?sslmode=disable&extra=1"
    place.secret("litemaas-db", DATABASE_URL=url.format(place.name))
    run()
    found = values(place, "litemaas-db")
    # A longer name of the same Service is no other host.
    assert found["password"] == "in/url" and found["DATABASE_URL"] == url.format(place.name)
    wrong = found["DATABASE_URL"].replace("in%2Furl", "wrong")
    place.delete("Secret", "litemaas-db")
    place.secret("litemaas-db", **{**found, "DATABASE_URL": wrong})
    result = run()
    assert entry(result, "litemaas-db")["updated"] == ["DATABASE_URL"]
    assert any("DATABASE_URL in Secret litemaas-db did not agree" in one for one in result["notes"])
    again = values(place, "litemaas-db")
    assert again["password"] == "in/url" and "in%2Furl@" in again["DATABASE_URL"] and "extra=1" in again["DATABASE_URL"]


def test_the_only_password_of_a_volume_is_not_overwritten(run: Runs, place: Namespace) -> None:
    run()
    volume(place)
    external = {"host": "db.example.com", "username": "them", "password": "their-password"}
    words = run.refused(database=external)
    assert "the database at db.example.com would take its place" in words and "data-litellm-postgres-0" in words
    words = run.refused(database={"password": "a-new-password"}, update_secrets="always")
    assert "rhpds.litemaas.rotate_database_password" in words and "a-new-password" not in words
    (other,) = run(database={"password": "a-new-password"})["kept"]
    assert other.startswith("password of Secret litemaas-db") and "a-new-password" not in other
    # By hand: the database has been told, then the Secret; its URLs follow.
    place.patch("Secret", "litemaas-db", {"stringData": {"password": "a-new-password"}})
    result = run(database={"password": "a-new-password"}, update_secrets="always")
    assert entry(result, "litemaas-db")["updated"] == ["DATABASE_URL", "LITELLM_DATABASE_URL"]
    assert not run(database={"password": "a-new-password"}, update_secrets="always").changed
    place.delete("PersistentVolumeClaim", "data-litellm-postgres-0")
    eventually(lambda: place.get("PersistentVolumeClaim", "data-litellm-postgres-0") is None)
    assert "password" in entry(run(database=external), "litemaas-db")["updated"]


def test_what_cannot_be_decoded_counts_as_missing(run: Runs, place: Namespace) -> None:
    place.create("Secret", "backend-secret", data={"JWT_SECRET": "//79", "ADMIN_API_KEY": ""})
    result = run()
    assert entry(result, "backend-secret")["created"] == ["ADMIN_API_KEY", "JWT_SECRET", "OAUTH_CLIENT_SECRET"]
    assert len(values(place, "backend-secret")["JWT_SECRET"]) > 40


def test_checksums_change_with_what_a_part_depends_on_alone(run: Runs, place: Namespace) -> None:
    first = run()["checksums"]
    second = run(license="licence-1234567890")["checksums"]
    assert {part for part in first if first[part] != second[part]} == {"litellm"}
    third = run(license="licence-1234567890", jwt_secret="a-new-jwt-secret", update_secrets="always")["checksums"]
    assert {part for part in first if third[part] != second[part]} == {"backend"}


def test_runs_at_the_same_time_agree_on_every_value(run: Runs, place: Namespace) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _number: run.any(), range(4)))
    assert not any(one.failed for one in results), [one["msg"] for one in results]
    assert len({str(sorted(one["checksums"].items())) for one in results}) == 1
    made = [entry(one, name)["created"] for one in results for name in NAMES]
    assert sum(len(keys) for keys in made) == sum(len(values(place, name)) for name in NAMES)
    assert not run().changed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"admin_api_key": "no-prefix-123456"}, "has to begin with ltm_admin_"),
        ({"key_secret": "short-secret"}, "shorter than 32 bytes"),
        ({"database": {"host": "db.example.com"}}, "has no password given"),
        ({"database": {"url": "mysql://secret-user:secret-word@h/x"}}, "database.url is no URL of a database"),
        ({"database": {"url": "postgresql://a:b@h/x", "host": "h"}}, "mutually exclusive"),
    ],
)
def test_what_cannot_be_right_is_refused(run: Runs, options: dict[str, Any], words: str) -> None:
    said = run.refused(**options)
    assert words in said
    assert not any(secret in said for secret in ("no-prefix-123456", "short-secret", "secret-word"))


def test_databases_and_a_redis_of_somebody_elses(run: Runs, place: Namespace) -> None:
    url = "postgresql://me:external-word@db.example.com/one?sslmode=require"
    result = run(database={"url": url}, redis={"host": "redis.example.com", "port": 6380})
    found = values(place, "litemaas-db")
    assert found["DATABASE_URL"] == found["LITELLM_DATABASE_URL"] == url
    assert (found["username"], found["password"], found["litellm_database"]) == ("me", "external-word", "one")
    assert values(place, "litellm-redis") == {"host": "redis.example.com", "port": "6380"}
    assert "external-word" not in str(result)
    moved = url.replace("external-word", "rotated-word")
    assert entry(run(database={"url": moved}, redis={"enabled": False}), "litemaas-db")["updated"] == [
        "DATABASE_URL",
        "LITELLM_DATABASE_URL",
        "password",
    ]


def test_removal_takes_what_is_ours_and_keeps_what_it_is_told_to(run: Runs, place: Namespace) -> None:
    run()
    place.secret("foreign", key="value")
    planned = run(check=True, state="absent")
    assert planned.changed and place.get("Secret", "litemaas-db")
    result = run(state="absent", keep=["litemaas-db", "litellm-secret"])
    assert {one["name"] for one in result["results"] if one["changed"]} == set(NAMES) - {
        "litemaas-db",
        "litellm-secret",
    }
    assert place.get("Secret", "litellm-secret") and place.get("Secret", "foreign")
    assert not place.get("Secret", "backend-secret")
    assert not run(state="absent", keep=["litemaas-db", "litellm-secret"]).changed


def test_secrets_without_mark_go_only_where_the_namespace_is_ours(
    runner: harness.Runner, stack: harness.Stack, place: Namespace, run: Runs
) -> None:
    place.secret("litellm-secret", LITELLM_MASTER_KEY="sk-of-somebody-else")
    assert not run(state="absent").changed and place.get("Secret", "litellm-secret")
    with Kube(stack).namespace(**{"rhpds.litemaas/created": "true"}) as ours:
        ours.secret("litellm-secret", LITELLM_MASTER_KEY="sk-of-ours-12345")
        assert Runs(runner, ours)(state="absent").changed and not ours.get("Secret", "litellm-secret")


def test_a_namespace_that_is_not_there(run: Runs, place: Namespace) -> None:
    planned = run.any(check=True, namespace="not-there-yet")
    assert not planned.failed and planned.changed
    result = run.any(namespace="not-there-yet")
    assert result.failed and "Make the namespace first" in result["msg"]


def test_nothing_is_shown_at_the_highest_verbosity(place: Namespace, run: Runs) -> None:
    playbook = """
- hosts: localhost
  gather_facts: false
  tasks:
    - rhpds.litemaas.litemaas_secrets:
        kubeconfig: "{{ kubeconfig }}"
        namespace: "{{ namespace }}"
        database: {password: "{{ password }}"}
        salt_key: "{{ salt }}"
      register: secrets
    - ansible.builtin.debug:
        var: secrets
"""
    given = {"password": "given-password-1", "salt": "sk-given-salt-key"}
    extra = {"kubeconfig": place.kube.kubeconfig, "namespace": place.name, **given}
    done = run.runner.playbook(playbook, extra, verbosity=3, diff=True)
    assert done.rc == 0, done.output
    assert done.changed == 1 and "litemaas-db" in done.output and "checksums" in done.output
    secret = [value for name in NAMES for value in values(place, name).values() if len(value) > 12]
    assert "given-password-1" in secret and len(secret) > 8
    assert [value for value in secret if value in done.output and value != "litellm-redis"] == []
