# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever ansible-playbook prints or writes, at any verbosity, in success and failure: no secret is in it.

On every ansible-core that the collection supports, as each has its own ways of hiding a result.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import venvs

KEY_LIKE = re.compile(r"sk-[A-Za-z0-9_-]{8,}")

PLAYBOOK = """
- name: Secrets everywhere
  hosts: localhost
  gather_facts: false
  module_defaults:
    group/rhpds.litemaas.litellm:
      litellm_url: "{{ url }}"
      litellm_master_key: "{{ master }}"
  tasks:
    - name: A model with a secret of its own and one among its parameters
      rhpds.litemaas.litellm_model:
        model_name: "{{ prefix }}model"
        litellm_model: openai/demo-chat
        api_base: "{{ upstream }}/v1"
        api_key: "{{ api_key }}-{{ item }}"
        litellm_params:
          client_secret: "{{ client_secret }}-{{ item }}"
        key_secret: "{{ key_secret }}"
      loop: [1, 2]
    - name: A model that can't be made
      rhpds.litemaas.litellm_model:
        model_name: "{{ prefix }}other"
        litellm_model: openai/demo-chat
        api_base: "{{ upstream }}/v1"
        api_key: "{{ api_key }}"
        litellm_url: http://127.0.0.1:9
        retry_count: 0
      ignore_errors: true
    - name: Keys with values that are derived
      rhpds.litemaas.litellm_virtual_key:
        key_secret: "{{ key_secret }}"
        guid: "{{ prefix }}g"
        max_budget: 5
        keys:
          - key_alias: "{{ prefix }}a"
          - key_alias: "{{ prefix }}b"
      register: derived
    - name: Keys in a loop, changed
      rhpds.litemaas.litellm_virtual_key:
        key_secret: "{{ key_secret }}"
        key_alias: "{{ prefix }}{{ item }}"
        max_budget: 6
      loop: [a, b]
      loop_control:
        extended: true
      register: looped
    - name: A key with a random value
      rhpds.litemaas.litellm_virtual_key:
        key_alias: "{{ prefix }}random"
      environment:
        LITELLM_KEY_SECRET: ""
      register: random
    - name: Values that the caller has
      rhpds.litemaas.litellm_virtual_key:
        key_alias: "{{ prefix }}random"
        known_values: "{{ ['sk-' ~ 'x' * 40]
          + (random.results | default([]) | map(attribute='key', default='') | list) }}"
        return_values: "{{ 'yes' }}"
      environment:
        LITELLM_KEY_SECRET: ""
      register: known
      ignore_errors: true
    - name: The same ones as a text
      rhpds.litemaas.litellm_virtual_key:
        key_alias: "{{ prefix }}random"
        known_values: "sk-{{ 'x' * 40 }},{{ random.results | default([]) | map(attribute='key', default='') | join }}"
      environment:
        LITELLM_KEY_SECRET: ""
      register: known_text
      ignore_errors: true
    - name: One that fails among others
      rhpds.litemaas.litellm_virtual_key:
        key_secret: "{{ key_secret }}"
        keys:
          - key_alias: "{{ prefix }}a"
            max_budget: 7
          - key_alias: "{{ prefix }}bad"
            models: [no-such-model]
      register: partly
      ignore_errors: true
    - name: A wrong master key
      rhpds.litemaas.litellm_virtual_key:
        litellm_master_key: "{{ wrong_master }}"
        key_alias: "{{ prefix }}a"
      ignore_errors: true
    - name: A key_secret that is refused
      rhpds.litemaas.litellm_virtual_key:
        key_secret: "{{ master }}"
        key_alias: "{{ prefix }}a"
      ignore_errors: true
    - name: Listing
      rhpds.litemaas.litellm_virtual_key_info:
        prefix: "{{ prefix }}"
      register: listed
    - name: A database that refuses
      rhpds.litemaas.litemaas_db_sync:
        litemaas_dsn: "{{ dsn }}"
        sync_from_litellm: true
      ignore_errors: true
    - name: The values are there to be used
      ansible.builtin.copy:
        content: "{{ {'derived': derived, 'looped': looped, 'random': random, 'known': known,
          'known_text': known_text, 'partly': partly, 'listed': listed['keys'] | length} | to_json }}"
        dest: "{{ folder }}/values.json"
        mode: "0600"
      no_log: true
      check_mode: false
    - name: One key by its value
      rhpds.litemaas.litellm_virtual_key:
        token: "{{ derived.results[0].key | default('sk-' ~ 'y' * 40) }}"
        state: absent
"""


@pytest.fixture(params=["main", "unit-2.16", "unit-newest"], ids=["2.19", "2.16", "newest"])
def core(request: pytest.FixtureRequest) -> Path:
    """The programs of one ansible-core."""
    if request.param == "main":
        return Path(sys.executable).parent
    try:
        return Path(venvs.ensure(request.param)) / "bin"
    except venvs.Unavailable as error:
        if request.param == "unit-newest":
            pytest.skip(f"NOT RUN: {error}")
        raise


class Run:
    """One run of the playbook, and everything secret that it had in its hands."""

    def __init__(self, runner: harness.Runner, prefix: str, core: Path, *, check: bool, env: dict[str, str]) -> None:
        stack = runner.stack
        self.folder = runner.folder
        home = self.folder / "home"
        home.mkdir()
        self.given = {
            "master": stack.master_key,
            "key_secret": stack.key_secret,
            "api_key": "upstream-secret-of-the-model",
            "client_secret": "another-secret-of-the-model",
            "wrong_master": "sk-a-wrong-master-key-1234567890",
            "dsn": "postgresql://someone:pass-of-the-database@127.0.0.1:9/litemaas",
        }
        plain = {"prefix": prefix, "url": stack.url, "upstream": stack.upstream_url, "folder": str(self.folder)}
        self.result = runner.playbook(
            PLAYBOOK,
            {**plain, **self.given},
            check=check,
            diff=True,
            verbosity=4,
            env={
                "HOME": str(home),
                "PATH": f"{core}:/usr/bin:/bin",
                "PYTHONPATH": "",
                "ANSIBLE_LOG_PATH": str(self.folder / "ansible.log"),
                "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.tree",
                "ANSIBLE_CALLBACK_TREE_DIR": str(self.folder / "tree"),
                **env,
            },
        )
        self.values = json.loads((self.folder / "values.json").read_text())
        self.output = self.result.output

    def secrets(self) -> set[str]:
        found = {*self.given.values(), "pass-of-the-database"}
        found |= set(KEY_LIKE.findall(json.dumps(self.values)))
        return found

    def assert_nothing_told(self) -> None:
        places = {"output": self.output}
        for path in self.folder.rglob("*"):
            # What only its owner may read was written by this test for the run, or by the run for the owner.
            if path.is_file() and (path.stat().st_mode & (stat.S_IROTH | stat.S_IRGRP) or path.name == "ansible.log"):
                places[str(path)] = path.read_text(errors="replace")
        assert any(name.endswith("ansible.log") for name in places)
        told = [
            f"{place}: {secret[:6]}… in {text[max(0, text.index(secret) - 300) : text.index(secret)]!r}"
            for place, text in places.items()
            for secret in self.secrets()
            if secret in text
        ]
        told += [f"{place}: {found}" for place, text in places.items() for found in KEY_LIKE.findall(text)]
        assert not told, "\n".join(told[:10])


def entries(result: dict[str, Any]) -> list[dict[str, Any]]:
    nested = [inner for entry in result["results"] for inner in entry.get("results", ())]
    return nested or result["results"]


def test_no_secret_is_told_and_values_are_usable(runner: harness.Runner, prefix: str, core: Path) -> None:
    run = Run(runner, prefix, core, check=False, env={})
    assert run.result.rc == 0, run.output[-3000:]
    for name in ("derived", "looped", "random", "known", "known_text"):
        for entry in entries(run.values[name]):
            assert hashlib.sha256(entry["key"].encode()).hexdigest() == entry["token"], name
    assert run.values["listed"] >= 3
    assert run.values["known"]["results"][0]["key"] == run.values["random"]["results"][0]["key"]
    # The one that was done among those that failed.
    partly = run.values["partly"]
    assert partly["failed"] and [bool(entry.get("key")) for entry in partly["results"]] == [True, False]
    run.assert_nothing_told()
    # Hidden is not silent: what happened, what changed and why it failed are there.
    for words in (
        "2 virtual keys: 2 created",
        f"+{prefix}a: max_budget: 6.0",
        f"{prefix}bad: models not on the proxy: no-such-model",
        "Check litellm_master_key",
        "key_secret must be independent of the master key",
        "http://127.0.0.1:9/",
    ):
        assert words in run.output, words
    assert "censored" in run.output


@pytest.mark.parametrize(
    ("check", "env"),
    [
        (True, {"ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}),
        (False, {"ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml", "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1"}),
    ],
    ids=["check mode", "yaml with arguments"],
)
def test_other_ways_to_print(
    runner: harness.Runner, prefix: str, litellm: harness.LiteLLM, check: bool, env: dict[str, str]
) -> None:
    if check:
        # Something that is there already: whose value is known, and would be changed.
        done = runner.module("litellm_virtual_key", {"key_alias": f"{prefix}a", "guid": f"{prefix}g"})
        assert not done.failed
    run = Run(runner, prefix, Path(sys.executable).parent, check=check, env=env)
    assert run.result.rc == 0, run.output[-3000:]
    run.assert_nothing_told()
    if check:
        assert [key["key_alias"] for key in litellm.keys(prefix)] == [f"{prefix}a"]
        # Of keys that would be made there is no value yet.
        assert set(KEY_LIKE.findall(json.dumps(run.values))) == {done["results"][0]["key"]}


def test_no_log_of_the_task_is_kept(runner: harness.Runner, litellm: harness.LiteLLM, prefix: str) -> None:
    playbook = """
- name: Nothing to be said
  hosts: localhost
  gather_facts: false
  tasks:
    - name: A key
      rhpds.litemaas.litellm_virtual_key:
        key_alias: "{{ prefix }}a"
      no_log: true
    - name: Nor of calls with it
      rhpds.litemaas.litellm_key_check:
        keys:
          - key_alias: "{{ prefix }}a"
            key: sk-of-somebody-else
      no_log: true
      register: checked
      failed_when: checked.summary.failed != 1
    - name: Not in the background, where its result would be printed by another task
      rhpds.litemaas.litellm_virtual_key:
        key_alias: "{{ prefix }}a"
      async: 10
      poll: 0
      ignore_errors: true
"""
    done = runner.playbook(playbook, {"prefix": prefix}, verbosity=2)
    assert done.rc == 0 and "created" not in done.output and "rhpds_litemaas" not in done.output, done.output
    assert done.stats["localhost"]["ignored"] == 1
    assert len(litellm.keys(prefix)) == 1
    assert not KEY_LIKE.search(done.output)


def test_options_that_are_not_valid_are_not_shown(runner: harness.Runner, core: Path) -> None:
    live = "sk-" + "L1ve-value" * 3
    secrets = {
        "live": live,
        "private": "private-part-of-a-key-file",
        "aws": "secret-of-a-cloud/account",
        "client": "client-secret-of-the-model",
        "base": "password-in-an-address",
    }
    playbook = """
- name: Options that are not valid
  hosts: localhost
  gather_facts: false
  ignore_errors: true
  module_defaults:
    rhpds.litemaas.litellm_model:
      vertex_credentials: {private_key: "{{ private }}"}
      litellm_params: {aws_secret_access_key: "{{ aws }}", headers: [{client_secret: "{{ client }}"}]}
      api_base: "http://someone:{{ base }}@upstream/v1"
  tasks:
    - name: A number that is none, beside a live value
      rhpds.litemaas.litellm_virtual_key:
        keys:
          - {token: "{{ live }}", state: existing, extend: 5d}
          - {key_alias: x, rpm_limit: ten}
    - name: No such option
      rhpds.litemaas.litellm_virtual_key: {token: "{{ live }}", state: existing, rotat: true}
    - name: A known value as a text
      rhpds.litemaas.litellm_virtual_key: {key_alias: zz, known_values: "{{ live }},{{ live }}2", rpm_limit: ten}
    - name: Known values that are none
      rhpds.litemaas.litellm_virtual_key: {key_alias: zz, known_values: {value: "{{ live }}"}}
    - name: A list in a list
      rhpds.litemaas.litellm_virtual_key: {keys: [[{token: "{{ live }}"}]]}
    - name: A value in the wrong place
      rhpds.litemaas.litellm_virtual_key: {key_alias: zz, state: "{{ live }}"}
    - name: An item that is none
      rhpds.litemaas.litellm_key_check: {keys: ["{{ live }}"], rotat: true}
    - name: Secrets of models, their own
      rhpds.litemaas.litellm_model:
        models:
          - model_name: m
            vertex_credentials: {private_key: "{{ private }}"}
            litellm_params: {aws_secret_access_key: "{{ aws }}"}
            rpm: 10k
    - name: Secrets of models, the same for all
      rhpds.litemaas.litellm_model: {models: [{model_name: m, rpm: 10k}]}
    - name: The text of a key file
      rhpds.litemaas.litellm_model:
        model_name: m
        vertex_credentials: "{{ {'private_key': private} | to_json }}"
        modle: x
    - name: A list in a list of models
      rhpds.litemaas.litellm_model: {models: [[{litellm_params: {aws_secret_access_key: "{{ aws }}"}}]]}
"""
    env = {"HOME": str(runner.folder), "PATH": f"{core}:/usr/bin:/bin"}
    done = runner.playbook(playbook, secrets, verbosity=3, env=env)
    assert done.stats["localhost"]["ignored"] == 11, done.output[-3000:]
    told = [name for name, secret in secrets.items() if secret in done.output]
    assert not told and not KEY_LIKE.search(done.output), told
    # Which option it was is told.
    for words in ("'rpm_limit'", "rotat. Supported", "'rpm'", "modle. Supported"):
        assert words in done.output, words


def test_a_key_from_a_file_may_end_in_a_line_break(runner: harness.Runner, stack: harness.Stack, prefix: str) -> None:
    def run(**options: str) -> harness.ModuleResult:
        item = {"model_name": f"{prefix}m", "litellm_model": "openai/demo-chat", "api_key": "sk-placeholder"}
        done = runner.module("litellm_model", {**item, "api_base": f"{stack.upstream_url}/v1", **options})
        assert stack.master_key not in json.dumps(done) and "master-of" not in json.dumps(done)
        return done

    given = {"litellm_master_key": f" {stack.master_key}\n", "verify_as": f"{stack.master_key}\r\n"}
    done = run(**given)
    assert not done.failed and done.changed, done["msg"]
    for option in given:
        for wrong in ("master-of all", "master-of\nall", "master-of-€"):
            done = run(**{option: wrong})
            assert done.failed and done["msg"].startswith(f"{option} holds white space"), done["msg"]


def test_a_password_in_an_address_is_not_told(runner: harness.Runner, stack: harness.Stack, prefix: str) -> None:
    address = stack.upstream_url.removeprefix("http://")
    playbook = """
- name: Addresses with passwords
  hosts: localhost
  gather_facts: false
  tasks:
    - name: A model
      rhpds.litemaas.litellm_model:
        model_name: "{{ prefix }}m"
        litellm_model: openai/demo-chat
        api_base: "http://someone:{{ item }}@{{ address }}/v1"
        api_key: sk-placeholder
        litellm_params: {other_base: "https://me:{{ item }}@127.0.0.1/"}
      loop: "{{ passwords }}"
    - name: The same once more
      rhpds.litemaas.litellm_model:
        model_name: "{{ prefix }}m"
        litellm_model: openai/demo-chat
        api_base: "http://{{ address }}/v1"
        api_key: sk-placeholder
    - name: A proxy
      rhpds.litemaas.litellm_model_info:
        litellm_url: "http://someone:{{ passwords[0] }}@127.0.0.1:9"
      ignore_errors: true
"""
    passwords = ["pa55-w1", "pa55-w2-long"]
    given = {"prefix": prefix, "address": address, "passwords": passwords}
    done = runner.playbook(playbook, given, verbosity=3, diff=True)
    assert done.rc == 0, done.output[-3000:]
    # The loop's own item is the caller's.
    printed = re.sub(r"\(item=[^)]*\)|\"(ansible_loop_var|item)\": \"[^\"]*\"", "", done.output)
    assert not [word for word in passwords if word in printed], printed
    assert f"litellm_params.api_base: http://{address}/v1" in done.output
    assert "litellm_url holds an @" in done.output
