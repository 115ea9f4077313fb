# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AgnosticD's side of a lab: user info and user data, with agnosticd.core and without, and the bastion's profile.

``agnosticd_core`` beside this file holds a stand-in for AgnosticD's collection, made from the contract with it. It
notes how it was called and how often it rewrote the user data.
"""

from __future__ import annotations

import getpass
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rhpds.litemaas.tests.integration import harness

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import venvs

STAND_IN = Path(__file__).parent / "agnosticd_core"
SECRET = "sk-a-value-that-nobody-may-see-"
AWKWARD = [
    "plain",
    "it's \"quoted\" 'twice'",
    "$(touch ran) `touch ran` $HOME ${HOME} %s \\n \\ \\\\",
    "two\nlines\n\nand \r a return\n",
    "!! !x history; a & b | c > d < e * ? [x] ~ # no comment",
    "{{ 1 + 1 }} {% raw %} {# x #}",
    "Grüße ✓ 日本語 \u00a0 \U0001f600",
    "  spaces and\ttabs  ",
    "'",
    "-n",
]


class Lab:
    """A lab's output_dir, and playbooks run for it, with or without the stand-in for agnosticd.core."""

    def __init__(self, runner: harness.Runner, programs: Path, *, core: bool) -> None:
        self.runner, self.programs, self.core = runner, programs, core
        self.folder = runner.folder / "out"
        self.profile = runner.folder / "litemaas.sh"

    def environment(self) -> dict[str, str]:
        collections = self.runner.environment()["ANSIBLE_COLLECTIONS_PATH"]
        if self.core:
            collections += f":{STAND_IN}"
        path = f"{self.programs}:/usr/bin:/bin"
        return {"ANSIBLE_COLLECTIONS_PATH": collections, "PYTHONPATH": "", "PATH": path}

    def run(self, tasks: list[Any], *, play: dict[str, Any] | None = None, **options: Any) -> harness.PlaybookResult:
        """Run tasks on localhost."""
        whole = [{"name": "A lab", "hosts": "localhost", "gather_facts": False, **(play or {}), "tasks": tasks}]
        return self.play(yaml.safe_dump(whole) + "\n", **options)

    def play(self, text: str, variables: dict[str, Any] | None = None, **options: Any) -> harness.PlaybookResult:
        given = {"output_dir": str(self.folder), **(variables or {})}
        return self.runner.playbook(text, given, env={"ANSIBLE_FORKS": "5", **self.environment()}, **options)

    def tell(self, *calls: dict[str, Any], **options: Any) -> harness.PlaybookResult:
        """One task of our plugin for each set of options; it has to succeed."""
        done = self.run([{"rhpds.litemaas.agnosticd_user_info": call} for call in calls], **options)
        assert done.rc == 0, done.output
        return done

    def bastion(self, variables: dict[str, Any] | None = None, **options: Any) -> harness.PlaybookResult:
        """The role, on this machine."""
        role = "rhpds.litemaas.ocp4_workload_litellm_bastion_profile"
        begin = "ocp4_workload_litellm_bastion_profile_"
        given = {f"{begin}path": str(self.profile), f"{begin}become": False}
        given |= {name if name.isupper() else begin + name: value for name, value in (variables or {}).items()}
        play = [{"name": "Bastion", "hosts": "localhost", "gather_facts": False, "roles": [role]}]
        return self.play(yaml.safe_dump(play) + "\n", given, diff=True, verbosity=3, **options)

    def has(self, data: dict[str, Any], name: str = "provision-user-data.yaml") -> None:
        """Somebody has written user data."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_text(yaml.safe_dump(data), encoding="utf-8")

    @property
    def data(self) -> dict[str, Any]:
        text = (self.folder / "provision-user-data.yaml").read_text(encoding="utf-8")
        assert text.startswith("---\n")
        return yaml.safe_load(text)

    def texts(self, kind: str = "info") -> list[str]:
        """The lines of the user info, each one JSON behind a dash."""
        lines = (self.folder / f"provision-user-{kind}.yaml").read_text(encoding="utf-8").splitlines()
        return [json.loads(line.removeprefix("- ")) for line in lines]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """How the stand-in was called."""
        path = self.folder / "core-calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def files(self) -> dict[str, int]:
        """Names and modes of what is in the folder, but for the stand-in's notes."""
        paths = [path for path in self.folder.glob("*") if not path.name.startswith("core-")]
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}


@pytest.fixture
def stack() -> harness.Stack:
    """Nothing here talks to a proxy."""
    return harness.Stack({})


def programs(name: str) -> Path:
    if name == "main":
        return Path(sys.executable).parent
    try:
        return Path(venvs.ensure(name)) / "bin"
    except venvs.Unavailable as error:
        if name == "unit-newest":
            pytest.skip(f"NOT RUN: {error}")
        raise


@pytest.fixture(params=[False, True], ids=["alone", "with agnosticd.core"])
def lab(runner: harness.Runner, request: pytest.FixtureRequest) -> Lab:
    """A lab, with and without agnosticd.core."""
    return Lab(runner, programs("main"), core=request.param)


@pytest.fixture
def with_core(runner: harness.Runner) -> Lab:
    return Lab(runner, programs("main"), core=True)


@pytest.fixture
def alone(runner: harness.Runner) -> Lab:
    return Lab(runner, programs("main"), core=False)


WORKSHOP = """
- name: A workshop of two, with all that the plugin does
  hosts: localhost
  gather_facts: false
  vars:
    lab_key: "{{ secret }}{{ 'lab' }}"
    nested: {list: ["{{ lab_key }}", 1, 2.5, true, null], word: "{{ 'no' }}"}
    participants: {user1: {key: "{{ secret }}1", nested: "{{ nested }}"}, user2: {key: "{{ secret }}2"}}
  tasks:
    - name: Everything at once
      rhpds.litemaas.agnosticd_user_info:
        msg: ["URL: https://litellm.example.com/v1", "Key: {{ lab_key }}", "Models: a, b"]
        data: {litellm_virtual_key: "{{ lab_key }}", litellm_available_models: [a, b], nested: "{{ nested }}"}
        users: "{{ participants }}"
        facts: {litellm_virtual_key: "{{ lab_key }}", nested_fact: "{{ nested }}"}
        hidden: ["{{ lab_key }}"]
      register: told
    - name: One participant
      rhpds.litemaas.agnosticd_user_info:
        user: user2
        msg: [Welcome, "Your key: {{ secret }}2"]
        data: {mail: user2@lab.opentlc.com}
        hidden: ["{{ secret }}2"]
    - name: In a loop
      rhpds.litemaas.agnosticd_user_info:
        user: "{{ item.name }}"
        data: "{{ item.data }}"
      loop: [{name: user1, data: {other: "{{ secret }}3"}}]
    - name: A body
      rhpds.litemaas.agnosticd_user_info:
        body: "Read on:\\nthere is more"
    - name: Facts are set
      ansible.builtin.assert:
        that:
          - litellm_virtual_key == lab_key
          - nested_fact.list[0] == lab_key
          - told.ansible_facts is defined
    - name: In a loop, refused
      rhpds.litemaas.agnosticd_user_info:
        user: "{{ item }}"
        users: {user1: {other: "{{ item }}"}}
      loop: ["{{ secret }}4"]
      ignore_errors: true
    - name: Read back
      ansible.builtin.assert:
        quiet: true
        that:
          - lookup(data, 'litellm_virtual_key') == lab_key
          - lookup(data, 'litellm_virtual_key', 'nothing', default='-') == lab_key ~ ',-'
          - query(data, 'key', 'nothing', user='user2') == [secret ~ '2', none]
          - lookup(data, 'key', user='nobody') is none
          - lookup(data, '*') | sort == ['litellm_available_models', 'litellm_virtual_key', 'nested', 'users']
          - lookup(data, '*', user='user1').nested.list[3] is true
      vars:
        data: rhpds.litemaas.agnosticd_user_data
"""


@pytest.mark.parametrize("core", [False, True], ids=["alone", "with agnosticd.core"])
@pytest.mark.parametrize("version", ["main", "unit-2.16", "unit-newest"], ids=["2.19", "2.16", "newest"])
def test_a_workshop(runner: harness.Runner, version: str, core: bool) -> None:
    lab = Lab(runner, programs(version), core=core)
    first = lab.play(WORKSHOP, {"secret": SECRET}, verbosity=4)
    assert first.rc == 0, first.output
    nested = {"list": [SECRET + "lab", 1, 2.5, True, None], "word": "no"}
    assert lab.data == {
        "litellm_virtual_key": SECRET + "lab",
        "litellm_available_models": ["a", "b"],
        "nested": nested,
        "users": {
            "user1": {"key": SECRET + "1", "nested": nested, "other": SECRET + "3"},
            "user2": {
                "key": SECRET + "2",
                "mail": "user2@lab.opentlc.com",
                "msg": f"Welcome\nYour key: {SECRET}2",
            },
        },
    }
    info = ["URL: https://litellm.example.com/v1", f"Key: {SECRET}lab", "Models: a, b"]
    assert lab.texts() == info and lab.texts("body") == ["Read on:\nthere is more"]
    assert lab.files == dict.fromkeys([f"provision-user-{kind}.yaml" for kind in ("data", "info", "body")], 0o600)
    for line in (info[0], "Key: (in the user info)", "Models: a, b", "Welcome", "Your key: (in the user info)"):
        assert first.stdout.count(f"user.info: {line}\n") == 1, line
    assert "user.body: Read on:\nthere is more\n" in first.stdout
    assert SECRET not in first.output
    assert "user and users exclude each other" in first.output
    assert first.changed == 4
    assert "WARNING" not in first.output, first.output
    rewrites = [call["rewrites"] for call in lab.calls]
    assert rewrites == ([1, 1, 1, 0] if core else [])

    again = lab.play(WORKSHOP, {"secret": SECRET}, verbosity=3)
    assert again.rc == 0 and again.changed == 0, again.output
    assert lab.texts() == info and SECRET not in again.output
    assert f"user.info: {info[0]}\n" in again.stdout  # each run's log tells it
    assert len(lab.calls) == len(rewrites)


def test_a_thousand_participants_are_one_rewrite(lab: Lab) -> None:
    lab.has({"other": 1, "users": {"user7": {"mine": "stays", "litellm_virtual_key": "old"}, "guest": {"k": 1}}})
    users = {f"user{n}": {"litellm_virtual_key": f"{SECRET}{n}", "n": n} for n in range(1, 1001)}
    call = {"users": users, "data": {"litellm_user_count": 1000}, "msg": "1000 keys"}
    before = (lab.folder / "provision-user-data.yaml").stat().st_ino
    done = lab.tell(call, verbosity=3)
    assert SECRET not in done.output
    assert '"msg": "user info: 1 value, 1000 participants, 1 message"' in done.output
    data = lab.data
    assert data.pop("users") == {**users, "user7": {**users["user7"], "mine": "stays"}, "guest": {"k": 1}}
    assert data == {"other": 1, "litellm_user_count": 1000}
    if lab.core:
        assert lab.calls == [{"options": ["data", "msg"], "rewrites": 1}]
    else:
        assert (lab.folder / "provision-user-data.yaml").stat().st_ino != before  # replaced, not written over
    assert lab.tell(call).changed == 0
    assert len(lab.calls) == lab.core


def test_module_defaults_for_either_name(with_core: Lab) -> None:
    def play(defaults: dict[str, Any]) -> dict[str, Any]:
        return {"vars": {"cluster": "hub"}, "module_defaults": defaults}

    core = {"agnosticd.core.agnosticd_user_info": {"data_prefix": "{{ cluster }}_"}}
    calls: list[dict[str, Any]] = [
        {"data": {"a": 1}},
        {"user": "user1", "data": {"b": 2}, "msg": "hello"},
        {"users": {"user1": {"c": 3}, "user2": {"c": 4}}, "data": {"d": 5}},
        {"data": {"e": 6}, "data_prefix": ""},
    ]
    expected = {
        "hub_a": 1,
        "hub_d": 5,
        "e": 6,
        "users": {"user1": {"hub_b": 2, "hub_c": 3, "msg": "hello"}, "user2": {"hub_c": 4}},
    }
    with_core.tell(*calls, play=play(core))
    assert with_core.data == expected
    assert [call["rewrites"] for call in with_core.calls] == [1, 1, 1, 1]
    assert with_core.tell(*calls, play=play(core)).changed == 0
    own = {"rhpds.litemaas.agnosticd_user_info": {"data_prefix": "own_"}}
    with_core.tell({"data": {"a": 1}}, play=play({**core, **own}))
    assert with_core.data == {**expected, "own_a": 1}


def test_both_collections_in_one_play(with_core: Lab) -> None:
    def tasks(name: str, key: str) -> list[Any]:
        return [
            {f"{name}.agnosticd_user_info": {"msg": f"from {key}", "data": {key: 1}}},
            {f"{name}.agnosticd_user_info": {"user": "user1", "data": {key: 2}}},
        ]

    both = tasks("rhpds.litemaas", "ours") + tasks("agnosticd.core", "theirs") + tasks("rhpds.litemaas", "last")
    lookups = [
        f"lookup('{name}.agnosticd_user_data', '{key}', user='user1') == 2"
        for name in ("rhpds.litemaas", "agnosticd.core")
        for key in ("ours", "theirs", "last")
    ]
    done = with_core.run([*both, {"ansible.builtin.assert": {"that": lookups}}])
    assert done.rc == 0, done.output
    keys = {"ours", "theirs", "last"}
    assert with_core.data == {**dict.fromkeys(keys, 1), "users": {"user1": dict.fromkeys(keys, 2)}}
    assert with_core.texts() == ["from ours", "from theirs", "from last"]
    assert set(with_core.files.values()) == {0o600}


def test_check_mode_is_quiet(lab: Lab) -> None:
    call = {"msg": "hello", "data": {"a": SECRET}, "users": {"user1": {"a": 1}}, "facts": {"known": 1}}
    tasks = [
        {"rhpds.litemaas.agnosticd_user_info": call, "register": "told"},
        {"ansible.builtin.assert": {"that": ["known == 1", "told is changed", "told.users_changed == ['user1']"]}},
    ]
    done = lab.run(tasks, check=True, verbosity=3)
    assert done.rc == 0 and done.changed == 1, done.output
    assert "user.info" not in done.output and SECRET not in done.output
    assert not lab.folder.exists()


def test_a_file_that_is_no_user_data_is_left_alone(lab: Lab) -> None:
    wrong = {
        f"a: 1\nb: {SECRET}: {SECRET}\n": "0-user-data.yaml, line 2: this is no YAML",
        f"- {SECRET}\n": "1-user-data.yaml holds no mapping",
        f"users: {SECRET}\n": "2-user-data.yaml: users is no mapping",
        f"users: {{user1: {SECRET}}}\n": "3-user-data.yaml: users.user1 is no mapping",
    }
    lab.folder.mkdir()
    tasks: list[dict[str, Any]] = []
    for number, content in enumerate(wrong):
        (lab.folder / f"{number}-user-data.yaml").write_text(content, encoding="utf-8")
        reading = "{{ lookup('rhpds.litemaas.agnosticd_user_data', 'a', user='user1') }}"
        for task in (
            {"rhpds.litemaas.agnosticd_user_info": {"users": {"user1": {"a": 1}}}},
            {"ansible.builtin.debug": {"msg": reading}},
        ):
            tasks.append({**task, "vars": {"ACTION": str(number)}, "ignore_errors": True})
    done = lab.run(tasks, verbosity=3)
    assert done.stats["localhost"]["ignored"] == len(tasks), done.output
    assert SECRET not in done.output
    for number, (content, words) in enumerate(wrong.items()):
        assert done.output.count(words) >= 2, words
        assert (lab.folder / f"{number}-user-data.yaml").read_text(encoding="utf-8") == content


def test_options_are_checked_and_never_quoted(alone: Lab) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"usr": SECRET}, "there is no option usr: did you mean user?"),
        ({"data": SECRET}, "data has to be a dictionary"),
        ({"users": {"user1": SECRET}}, "users.user1 has to be a name with a dictionary"),
        ({"msg": [{"a": SECRET}]}, "msg has to be a text or a list of texts"),
        ({"user": [SECRET]}, "user has to be a text"),
        ({"msg": SECRET, "body": SECRET}, "msg and body exclude each other"),
    ]
    # Through variables, as Ansible itself quotes a play's own lines.
    variables = {f"given{number}": call for number, (call, _words) in enumerate(wrong)}
    tasks = [
        {"rhpds.litemaas.agnosticd_user_info": {k: f"{{{{ given{n}.{k} }}}}" for k in call}, "ignore_errors": True}
        for n, (call, _words) in enumerate(wrong)
    ]
    done = alone.run(tasks, variables=variables, verbosity=3)
    for _call, words in wrong:
        assert words in done.output, words
    assert done.stats["localhost"]["ignored"] == len(wrong)
    assert SECRET not in done.output


def test_a_failure_of_agnosticd_core_is_ours_without_its_data(with_core: Lab) -> None:
    with_core.folder.mkdir()
    (with_core.folder / "provision-user-info.yaml").mkdir()
    (with_core.folder / "core-calls.jsonl").mkdir()
    call = {"rhpds.litemaas.agnosticd_user_info": {"data": {"a": SECRET}}}
    done = with_core.run([call], verbosity=3)
    assert done.rc == 2 and "agnosticd.core.agnosticd_user_info failed: " in done.output, done.output
    assert "core-calls.jsonl" in done.output and SECRET not in done.output


def test_writers_at_once_lose_nothing(lab: Lab) -> None:
    """Five hosts of one play, in two processes."""
    hosts = "".join(f"host{number}," for number in range(5))
    text = """
- name: Many at once
  hosts: all
  gather_facts: false
  tasks:
    - name: Tell
      rhpds.litemaas.agnosticd_user_info:
        user: "{{ inventory_hostname }}"
        msg: "{{ inventory_hostname }} {{ who }} {{ item }}"
        data: "{{ {who ~ item: 1} }}"
      loop: [0, 1, 2, 3, 4, 5]
    - name: Tell all
      rhpds.litemaas.agnosticd_user_info:
        msg: "{{ inventory_hostname }} {{ who }}"
        data: "{{ {inventory_hostname ~ who: 1} }}"
"""
    runners = [harness.Runner(lab.runner.stack, lab.runner.folder / who) for who in ("a", "b")]
    for runner in runners:
        runner.folder.mkdir()

    def run(runner: harness.Runner) -> harness.PlaybookResult:
        variables = {"output_dir": str(lab.folder), "who": runner.folder.name}
        env = {"ANSIBLE_FORKS": "5", **lab.environment()}
        return runner.playbook(text, variables, env=env, arguments=("--inventory", hosts))

    with ThreadPoolExecutor() as pool:
        for done in pool.map(run, runners):
            assert done.rc == 0, done.output
    everybody = [f"host{number}" for number in range(5)] + ["localhost"]
    data = lab.data
    for host in everybody:
        told = data["users"][host]
        assert sorted(told.pop("msg").splitlines()) == sorted(f"{host} {who} {n}" for who in "ab" for n in range(6))
        assert told == {f"{who}{n}": 1 for who in "ab" for n in range(6)}
        assert data[f"{host}a"] == data[f"{host}b"] == 1
    assert sorted(lab.texts()) == sorted(f"{host} {who}" for host in everybody for who in "ab")
    # No lock and no temporary file stays behind.
    assert lab.files == {"provision-user-data.yaml": 0o600, "provision-user-info.yaml": 0o600}


def test_where_the_files_are(alone: Lab) -> None:
    """By the variables of localhost too, as a role on a bastion needs; open files of an older run are closed."""
    alone.has({"a": 1})
    (alone.folder / "provision-user-data.yaml").chmod(0o644)
    play = """
- name: AgnosticD's own variables
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Set them
      ansible.builtin.set_fact:
        output_dir: "{{ folder }}"
        ACTION: destroy
- name: Elsewhere
  hosts: bastion
  gather_facts: false
  tasks:
    - name: Read the provisioning's, as this action has written nothing
      ansible.builtin.assert:
        that: lookup('rhpds.litemaas.agnosticd_user_data', 'a') == 1
    - name: Tell
      rhpds.litemaas.agnosticd_user_info:
        data: {b: 2}
    - name: Read this action's
      ansible.builtin.assert:
        that: query('rhpds.litemaas.agnosticd_user_data', 'a', 'b') == [none, 2]
    - name: An empty one is none
      rhpds.litemaas.agnosticd_user_info:
        data: {a: 1}
      vars:
        ACTION: ""
        output_dir: ""
"""
    options: dict[str, Any] = {"arguments": ("--inventory", "bastion,"), "env": alone.environment()}
    done = alone.runner.playbook(play, {"folder": str(alone.folder)}, **options)
    assert done.rc == 0, done.output
    assert alone.files["destroy-user-data.yaml"] == 0o600
    # The empty ACTION of the last task falls back on localhost's.
    text = (alone.folder / "destroy-user-data.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"a": 1, "b": 2}
    alone.tell({"data": {"a": 1}})
    assert alone.files["provision-user-data.yaml"] == 0o600


SHELLS = [path for path in map(shutil.which, ("bash", "dash", "zsh", "ksh")) if path]


def exported(profile: Path, shell: str) -> dict[str, str]:
    """What a login shell has after reading the file."""
    program = 'import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith("LITELLM_")}))'
    command = [shell, "-c", '. "$0" && exec "$1" -c "$2"', str(profile), sys.executable, program]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=profile.parent)
    assert not done.stderr
    return json.loads(done.stdout)


def keys_of(key: str, models: str = "a, b") -> dict[str, str]:
    return {
        "litellm_api_base_url": "https://litellm.example.com/v1",
        "litellm_virtual_key": key,
        "litellm_available_models_list": models,
    }


def test_any_value_survives_the_profile(alone: Lab) -> None:
    key, models = SECRET + " ".join(AWKWARD), "\n".join(reversed(AWKWARD))
    alone.has(keys_of(key, models))
    done = alone.bastion()
    assert done.rc == 0 and done.changed == 1, done.output
    expected = {"LITELLM_API_URL": "https://litellm.example.com/v1", "LITELLM_API_KEY": key, "LITELLM_MODELS": models}
    assert SHELLS
    for shell in SHELLS:
        assert exported(alone.profile, shell) == expected, shell
    assert not (alone.profile.parent / "ran").exists()
    assert SECRET not in done.output
    assert stat.S_IMODE(alone.profile.stat().st_mode) == 0o644
    assert alone.bastion().changed == 0


@pytest.mark.parametrize("version", ["main", "unit-2.16", "unit-newest"], ids=["2.19", "2.16", "newest"])
def test_profile_of_a_participant_with_an_owner(runner: harness.Runner, version: str) -> None:
    lab = Lab(runner, programs(version), core=version != "main")
    lab.has({**keys_of(f"{SECRET}1"), "users": {"user3": keys_of(f"{SECRET}{AWKWARD[2]}")}})
    owner = "nobody" if os.geteuid() == 0 else getpass.getuser()
    done = lab.bastion({"user": "user3", "owner": owner})
    assert done.rc == 0 and SECRET not in done.output, done.output
    there = lab.profile.stat()
    assert (pwd.getpwuid(there.st_uid).pw_name, stat.S_IMODE(there.st_mode)) == (owner, 0o400)
    assert exported(lab.profile, SHELLS[0])["LITELLM_API_KEY"] == f"{SECRET}{AWKWARD[2]}"
    # Nobody there by that name: what is there stays.
    done = lab.bastion({"user": "user9"})
    assert done.rc == 2 and "the user data of participant user9 have no litellm_api_base_url" in done.output
    assert "Run ocp4_workload_litellm_virtual_keys first" in done.output
    assert exported(lab.profile, SHELLS[0])["LITELLM_API_KEY"] == f"{SECRET}{AWKWARD[2]}"
    assert lab.bastion({"ACTION": "destroy"}).changed == 1 and not lab.profile.exists()


def test_profile_is_removed_once(alone: Lab) -> None:
    alone.profile.touch()
    assert alone.bastion({"ACTION": "destroy"}, check=True).changed == 1 and alone.profile.exists()
    assert alone.bastion({"ACTION": "destroy"}).changed == 1 and not alone.profile.exists()
    assert alone.bastion({"ACTION": "remove"}).changed == 0


def test_profile_without_user_data(alone: Lab) -> None:
    done = alone.bastion()
    assert done.rc == 2 and "the user data have no litellm_api_base_url, litellm_virtual_key" in done.output
    assert alone.bastion(check=True).rc == 0
    assert not alone.profile.exists()
    # Why it can't be written is said though the task itself is hidden.
    values = {"api_url": "https://x/v1", "api_key": SECRET, "models": ["a", "b"]}
    done = alone.bastion({"values": values, "owner": "no-such-user"})
    assert done.rc == 2 and "no-such-user" in done.output and SECRET not in done.output, done.output
    assert alone.bastion({"values": values, "ACTION": "status"}).changed == 0
    alone.has({f"hub_{name}": value for name, value in keys_of(SECRET).items()})
    done = alone.bastion({"data_prefix": "hub_"})
    assert done.rc == 0 and exported(alone.profile, SHELLS[0])["LITELLM_API_KEY"] == SECRET


def test_profile_applied_by_another_role(alone: Lab) -> None:
    """As the role of the keys does it: from localhost, on each bastion, with values that it has just made."""
    begin = "ocp4_workload_litellm_bastion_profile_"
    tasks = [
        {
            "ansible.builtin.include_role": {
                "name": "rhpds.litemaas.ocp4_workload_litellm_bastion_profile",
                "apply": {"delegate_to": "{{ bastion }}"},
            },
            "vars": {
                f"{begin}values": {"api_url": "{{ url }}", "api_key": "{{ secret }}", "models": "{{ models }}"},
                f"{begin}path": f"{alone.profile}.{{{{ bastion }}}}",
                f"{begin}become": False,
            },
            "loop": "{{ groups.all | difference(['localhost']) }}",
            "loop_control": {"loop_var": "bastion"},
        }
    ]

    def run(arguments: str, variables: dict[str, Any]) -> None:
        done = alone.run(tasks, variables=variables, verbosity=3, diff=True, arguments=("--inventory", arguments))
        assert done.rc == 0 and SECRET not in done.output, done.output
        assert done.stats["localhost"]["changed"] == arguments.count(",")

    run("one,two,", {"url": "https://x/v1", "secret": SECRET, "models": ["a", "b"]})
    expected = {"LITELLM_API_URL": "https://x/v1", "LITELLM_API_KEY": SECRET, "LITELLM_MODELS": "a, b"}
    for bastion in ("one", "two"):
        assert exported(Path(f"{alone.profile}.{bastion}"), SHELLS[0]) == expected
    # Next to nothing, which is the hardest to quote; a model list may be empty.
    run("three,", {"url": "'", "secret": "-n", "models": ""})
    for shell in SHELLS:
        got = exported(Path(f"{alone.profile}.three"), shell)
        assert got == {"LITELLM_API_URL": "'", "LITELLM_API_KEY": "-n", "LITELLM_MODELS": ""}
