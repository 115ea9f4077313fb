# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Secrets of a deployment are to hold."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import secrets

DB, LITELLM = secrets.DATABASE, secrets.LITELLM
TEXT = st.text(min_size=1, max_size=20).filter(lambda text: text.strip())


def wish(**options):
    return secrets.Wish("ns", **options)


def planned(found=None, running=None, data=False, **options):
    return secrets.plan(found or {}, running or {}, wish(**options), data)


@given(TEXT, TEXT, TEXT)
def test_a_url_gives_its_parts_back(user, password, name):
    address = secrets.Address(user, password, "db.example.com", 5433, name, (("sslmode", "require"),))
    assert secrets.Address.of(address.url()) == address


@pytest.mark.parametrize("text", ["", "mysql://u:p@h/d", "postgresql:///d", "postgresql://u:p@h:none/d", "words"])
def test_what_is_no_url_has_no_parts(text):
    assert secrets.Address.of(text) == secrets.Address()


def test_values_that_cannot_be_used_count_as_missing():
    data = {"a": base64.b64encode(b"text").decode(), "b": "", "c": "//79", "d": "no base64!", "e": "ICAg"}
    assert secrets.decoded({"data": data}) == {"a": "text"}
    assert secrets.decoded(None) == secrets.decoded({}) == {}


@given(st.dictionaries(st.sampled_from(["username", "password", "database"]), TEXT))
def test_a_plan_is_kept_by_the_next_one(there):
    first = planned({DB: there})
    assert planned(first.wanted, data=True).wanted == first.wanted
    assert {key: first.wanted[DB][key] for key in there} == there


def test_generated_values_are_never_the_same():
    one, other = planned().wanted, planned().wanted
    for name, keys in {DB: ["password"], LITELLM: [secrets.MASTER, secrets.SALT, "UI_PASSWORD"]}.items():
        assert all(one[name][key] != other[name][key] for key in keys)


@pytest.mark.parametrize(
    ("found", "running", "given", "data", "master", "salt"),
    [
        ({secrets.MASTER: "m"}, {}, {}, True, "m", "m"),
        ({secrets.MASTER: "m", secrets.SALT: "s"}, {}, {}, True, "m", "s"),
        ({secrets.MASTER: "m"}, {secrets.SALT: "literal"}, {}, True, "m", "literal"),
        ({}, {secrets.MASTER: "m"}, {}, True, "m", "m"),
        ({}, {}, {secrets.MASTER: "old"}, True, "old", "old"),
        ({}, {}, {secrets.SALT: "old"}, True, None, "old"),
        ({}, {}, {secrets.MASTER: "m", secrets.SALT: "s"}, False, "m", "s"),
        ({secrets.SALT: "s"}, {}, {}, True, None, "s"),
    ],
)
def test_the_salt_key_is_what_was_encrypted_with(found, running, given, data, master, salt):
    wanted = planned({LITELLM: found}, running, data, given={LITELLM: given}).wanted[LITELLM]
    assert wanted[secrets.SALT] == salt
    assert wanted[secrets.MASTER] == master if master else wanted[secrets.MASTER].startswith("sk-")


def test_a_fresh_deployment_has_a_salt_key_of_its_own():
    wanted = planned(given={LITELLM: {secrets.MASTER: "sk-m"}}).wanted[LITELLM]
    assert wanted[secrets.MASTER] == "sk-m" and wanted[secrets.SALT] != "sk-m"


@pytest.mark.parametrize("always", [False, True])
def test_the_salt_key_of_data_is_never_another(always):
    with pytest.raises(secrets.SecretsError, match="can't be changed"):
        planned({LITELLM: {secrets.SALT: "s"}}, data=True, always=always, given={LITELLM: {secrets.SALT: "other"}})


def test_what_is_there_wins_unless_it_is_said_otherwise():
    there = {secrets.BACKEND: {"JWT_SECRET": "old"}}
    new = {secrets.BACKEND: {"JWT_SECRET": "new"}}
    assert planned(there, given=new).wanted[secrets.BACKEND]["JWT_SECRET"] == "old"
    assert planned(there, given=new, always=True).wanted[secrets.BACKEND]["JWT_SECRET"] == "new"


@pytest.mark.parametrize(
    ("there", "options", "names"),
    [
        ({}, {}, ("litemaas_db", "litellm_db")),
        ({}, {"litemaas": "one", "litellm": "one"}, ("one", "one")),
        # One URL alone: both are in one database.
        ({"database": "litellm", secrets.URL: "postgresql://u:p@litellm-postgres/litellm"}, {}, ("litellm", "litellm")),
        ({secrets.URL: "postgresql://u:p@h/a", secrets.LITELLM_URL: "postgresql://u:p@h/b"}, {}, ("a", "b")),
    ],
)
def test_names_of_databases(there, options, names):
    wanted = planned({DB: there}, database=options, data=True).wanted[DB]
    assert (wanted["database"], wanted["litellm_database"]) == names
    assert tuple(secrets.Address.of(wanted[key]).name for key in (secrets.URL, secrets.LITELLM_URL)) == names


def test_another_database_than_the_one_with_the_data_is_refused():
    there = {DB: {"database": "litellm", secrets.URL: "postgresql://u:p@litellm-postgres/litellm"}}
    with pytest.raises(
        secrets.SecretsError, match=r"database\.litemaas\) is other, but the deployment's database is litellm"
    ):
        planned(there, database={"litemaas": "other"}, data=True)
    assert planned(there, database={"litemaas": "other"}).wanted[DB]["database"] == "litellm"


@pytest.mark.parametrize(
    ("found", "running", "given", "volumes", "words"),
    [
        ({}, {}, (), [], []),
        ({}, {}, (), ["pvc"], ["no usable password", "neither a usable"]),
        ({}, {}, ("password", "salt_key"), ["pvc"], []),
        ({}, {}, ("password",), ["pvc"], ["neither a usable"]),
        ({}, {"": ""}, (), [], ["neither a usable"]),
        ({}, {secrets.MASTER: "m"}, (), [], []),
        ({DB: {secrets.URL: "postgresql://u:p@h/d"}, LITELLM: {secrets.SALT: "s"}}, {}, (), ["pvc"], []),
        ({DB: {"password": "p"}, LITELLM: {secrets.MASTER: "m"}}, {}, (), ["pvc"], []),
        # It was started with a salt key that is in no Secret any more.
        ({LITELLM: {secrets.MASTER: "m"}}, {secrets.SALT: ""}, (), [], ["has no usable LITELLM_SALT_KEY"]),
        ({LITELLM: {secrets.MASTER: "m"}}, {secrets.SALT: ""}, ("salt_key",), [], []),
        ({LITELLM: {secrets.MASTER: "m"}}, {secrets.MASTER: ""}, (), [], []),
        ({}, {secrets.MASTER: "", secrets.SALT: ""}, (), [], ["neither a usable"]),
    ],
)
def test_what_a_new_value_would_lose(found, running, given, volumes, words):
    sentences = secrets.lost(found, running, given, volumes)
    assert len(sentences) == len(words)
    assert all(word in sentence for word, sentence in zip(words, sentences, strict=True))


@pytest.mark.parametrize(
    ("host", "short"),
    [
        ("litellm-postgres", "litellm-postgres"),
        ("litellm-postgres.ns", "litellm-postgres"),
        ("litellm-postgres.ns.svc.cluster.local", "litellm-postgres"),
        ("litellm-postgres.other.svc", "litellm-postgres.other.svc"),
    ],
)
def test_names_of_a_service(host, short):
    assert secrets.short_host(host, "ns") == short


def test_checksums_tell_nothing_without_the_salt_key():
    values = planned().wanted
    other = {**values, LITELLM: {**values[LITELLM], secrets.SALT: "another"}}
    assert set(secrets.checksums(values)) == set(secrets.DEPENDS)
    assert not set(secrets.checksums(values).values()) & set(secrets.checksums(other).values())


@pytest.mark.parametrize(
    ("name", "labels", "ours", "deletable"),
    [
        ("data-litellm-postgres-0", {}, True, True),
        ("archive-of-litellm-postgres", {}, False, False),
        ("data-litellm-postgres-0", {secrets.MANAGED_BY: "somebody-else"}, False, False),
        ("data-litellm-postgres-0", {secrets.MANAGED_BY: "somebody-else", "app": "litellm-postgres"}, False, False),
        # What may be lost is more than what may be deleted.
        ("other-litellm-postgres-0", {}, True, False),
        ("old", {"app": "litellm-postgres"}, True, False),
    ],
)
def test_whose_a_volume_is(name, labels, ours, deletable):
    claim = {"metadata": {"name": name, "labels": labels}}
    assert secrets.is_volume(claim) == ours
    assert secrets.is_volume(claim, secrets.claim_templates(None)) == deletable


INSIDE = {"password": "old", secrets.URL: "postgresql://me:old@litellm-postgres.ns.svc:5432/db"}
OUTSIDE = {"password": "old", secrets.URL: "postgresql://me:old@db.example.com:5432/db"}
GIVEN = {DB: {"password": "new"}}


@pytest.mark.parametrize(
    ("there", "volumes", "options", "words"),
    [
        (INSIDE, ["pvc"], {"database": {"host": "db.example.com"}, "given": GIVEN}, "db.example.com would take its"),
        (INSIDE, ["pvc"], {"database": {"url": "postgresql://a:b@db.example.com/x"}}, "db.example.com would take its"),
        ({"password": "old"}, ["pvc"], {"database": {"host": "db.example.com"}}, "would take its place"),
        ({secrets.URL: INSIDE[secrets.URL]}, ["pvc"], {"database": {"host": "h"}}, "would take its place"),
        (INSIDE, ["pvc"], {"database": {"host": "litellm-postgres.ns.svc.cluster.local"}, "given": GIVEN}, ""),
        (INSIDE, [], {"database": {"host": "db.example.com"}, "given": GIVEN}, ""),
        # Switched before: the password in the Secret is the other database's.
        (OUTSIDE, ["pvc"], {"database": {"host": "db.example.com"}, "given": GIVEN}, ""),
        ({}, ["pvc"], {"database": {"host": "db.example.com"}, "given": GIVEN}, ""),
        (INSIDE, ["pvc"], {"always": True, "given": GIVEN}, "rotate_database_password sets another"),
        (
            {secrets.URL: INSIDE[secrets.URL]},
            ["pvc"],
            {"always": True, "given": GIVEN},
            "rotate_database_password sets another",
        ),
        (INSIDE, ["pvc"], {"always": True, "given": {DB: {"password": "old"}}}, ""),
        (INSIDE, ["pvc"], {"always": True}, ""),
        (INSIDE, ["pvc"], {"given": GIVEN}, ""),
        (INSIDE, [], {"always": True, "given": GIVEN}, ""),
    ],
)
def test_the_only_password_of_a_volume_is_not_overwritten(there, volumes, options, words):
    sentence = secrets.overwritten({DB: there}, wish(**options), volumes)
    assert words in sentence and bool(words) == bool(sentence) and ("pvc" in sentence or not words)
    assert "old@" not in sentence and "new" not in sentence.split()


def test_what_was_given_and_is_not_taken_is_named_without_its_value():
    there = {DB: {"username": "them", "password": "old-password"}, LITELLM: {secrets.MASTER: "sk-old"}}
    asked = {
        DB: {"username": "me", "password": "new-password"},
        LITELLM: {secrets.MASTER: "sk-old", "UI_USERNAME": "x"},
    }
    wanted = planned(there, data=True, given=asked).wanted
    found = secrets.kept(wish(given=asked), wanted)
    username, password = found
    assert username == "username of Secret litemaas-db, not ocp4_workload_litemaas_ha_postgres_user"
    assert password.endswith("rotate_database_password changes, not ocp4_workload_litemaas_ha_postgres_password")
    always = wish(given=asked, always=True)
    assert secrets.kept(always, secrets.plan(there, {}, always, False).wanted) == []


def test_a_refusal_names_the_roles_variable():
    with pytest.raises(
        secrets.SecretsError, match=r"^ocp4_workload_litemaas_ha_postgres_db .option database.litemaas. is"
    ):
        planned({DB: {"database": "here"}}, data=True, database={"litemaas": "there"})
    sentences = secrets.lost({DB: {}}, {}, (), ["pvc"])
    assert "ocp4_workload_litemaas_ha_postgres_password" in sentences[0]
    assert "ocp4_workload_litemaas_litellm_salt_key" in sentences[1]
