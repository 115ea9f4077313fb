# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection at work on a real LiteLLM proxy and PostgreSQL: models in both stores, a key for every participant.

    make demo                            on LiteLLM 1.81.14
    LITELLM_VERSION=1.106.0 make demo    on the newer one

Everything is done with the collection's own playbooks, and everything is then looked at from outside: through the
proxy with the participants' keys, and in the database. Ends with 1 if anything is not as it should be.
"""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psycopg2
import requests

CHECKOUT = Path(__file__).resolve().parents[2]
STACK_DIR = Path(os.environ.get("STACK_DIR") or CHECKOUT / ".stack")
STACK = CHECKOUT / "tests" / "stack" / "stack.py"
COLLECTIONS = Path(os.environ.get("ANSIBLE_COLLECTIONS_PATH") or CHECKOUT / ".stack" / "collections")
ENV_LINE = re.compile(r"^export ([A-Z_]+)=(.*)$")
CHANGED = re.compile(r"changed=(\d+)")

PARTICIPANTS = 25
WORKSHOP = 30
#: Seconds until the spend of a call has reached the key's row, and the proxy's own copy of it.
SPEND_SECONDS = 90
WIDTH = 108


class UnmetError(Exception):
    """Something is not as it should be."""


def expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise UnmetError(otherwise)


# ---- what a person sees ----


@dataclass
class Display:
    """Numbered steps, a line each. On a terminal a step is shown while it runs, too."""

    live: bool = field(default_factory=sys.stdout.isatty)
    number: int = 0
    failed: str = ""
    started: float = field(default_factory=time.monotonic)

    def step(self, what: str, act: Callable[[], str | None]) -> bool:
        """Do one step and tell what came of it. The steps build on one another: the first that fails is the last."""
        self.number += 1
        begun = time.monotonic()
        if self.live:
            print(f"{self.number:3}   {what} …", end="\r", flush=True)
        trouble = ""
        try:
            told = act()
        except UnmetError as problem:
            told, trouble = None, str(problem)
        except requests.RequestException as problem:
            told, trouble = None, f"the proxy did not answer: {type(problem).__name__}"
        text = f"{what}: {told}" if told else what
        clear = "\x1b[K" if self.live else ""
        spent = time.monotonic() - begun
        print(f"{self.number:3} {'✗' if trouble else '✓'} {text.ljust(WIDTH)} {spent:6.1f} s{clear}", flush=True)
        if trouble:
            print(f"      {trouble}", flush=True)
            self.failed = what
        return not trouble

    def end(self) -> int:
        spent = time.monotonic() - self.started
        if self.failed:
            print(f"\nNot as it should be: step {self.number}, {self.failed}")
            return 1
        print(f"\nAll {self.number} steps as they should be, in {spent:.0f} s")
        return 0


# ---- the stack, the collection, and how it is looked at from outside ----


@dataclass
class Stack:
    """Addresses and secrets of the running stack; whether it was started here."""

    variables: dict[str, str] = field(repr=False)
    ours: bool
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    @classmethod
    def up(cls) -> Stack:
        """The stack in $STACK_DIR, started where it is not up."""
        was_up = _stack("status", quiet=True) == 0
        expect(was_up or _stack("up") == 0, "the stack did not start")
        lines = (STACK_DIR / "env").read_text(encoding="utf-8").splitlines()
        found = [match for match in map(ENV_LINE.match, lines) if match]
        return cls({match[1]: "".join(shlex.split(match[2])) for match in found}, ours=not was_up)

    def leave(self) -> None:
        """Stop what was started here; leave running what was not, as make's own or somebody's tests may use it."""
        if self.ours:
            _stack("down", quiet=True)
            print("\nThe stack that was started for this is stopped")
        else:
            print(f"\nThe stack stays up, with its proxy at {self['LITELLM_URL']}: make stack-down stops it")

    def __getitem__(self, name: str) -> str:
        return self.variables[name]

    def call(self, method: str, path: str, key: str, **options: Any) -> tuple[int, Any]:
        """Status and body of one request to the proxy."""
        answer = self.session.request(
            method, self["LITELLM_URL"] + path, headers={"Authorization": f"Bearer {key}"}, timeout=60, **options
        )
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    def admin(self, path: str, **query: Any) -> Any:
        """What the proxy tells its administrator."""
        status, body = self.call("GET", path, self["LITELLM_MASTER_KEY"], params=query)
        expect(status == 200, f"GET {path}: {status}")
        return body

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of LiteMaaS's database."""
        connection = psycopg2.connect(self["LITEMAAS_DSN"])
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        finally:
            connection.close()


def _stack(command: str, *, quiet: bool = False) -> int:
    environment = {**os.environ, "STACK_DIR": str(STACK_DIR)}
    where = subprocess.DEVNULL if quiet else None
    done = subprocess.run(
        [sys.executable, str(STACK), command], env=environment, stdout=where, stderr=where, check=False
    )
    return done.returncode


@dataclass
class Ansible:
    """Runs the collection's playbooks as a user would, and keeps what they printed to be searched for secrets."""

    stack: Stack
    folder: Path
    output: list[str] = field(default_factory=list)

    def play(self, playbook: str, values: dict[str, Any], *arguments: str) -> int:
        """Run one playbook; gives the number of tasks that changed something."""
        given = self.folder / "vars.json"
        given.touch(mode=0o600)
        given.write_text(json.dumps(values), encoding="utf-8")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            **self.stack.variables,
        }
        command = ["ansible-playbook", playbook, "-vv", "--diff", "--extra-vars", f"@{given}", *arguments]
        command += ["--extra-vars", f"ansible_python_interpreter={sys.executable}"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=self.folder,
        )
        self.output.append(done.stdout + done.stderr)
        expect(done.returncode == 0, f"{playbook} ended with {done.returncode}: {self._why()}")
        return sum(int(count) for count in CHANGED.findall(done.stdout))

    def _why(self) -> str:
        lines = [line for line in self.output[-1].splitlines() if re.search(r"fatal:|ERROR", line)]
        return self.without_secrets(" ".join(lines or self.output[-1].splitlines()[-5:])[:800])

    def without_secrets(self, text: str) -> str:
        for secret in self.secrets():
            text = text.replace(secret, "…")
        return re.sub(r"sk-[A-Za-z0-9_-]{8,}", "sk-…", text)

    def secrets(self) -> list[str]:
        """What must be in no output."""
        named = ("LITELLM_MASTER_KEY", "LITELLM_KEY_SECRET")
        passwords = [re.findall(r"://[^:]+:([^@]+)@", self.stack[name]) for name in ("LITELLM_DSN", "LITEMAAS_DSN")]
        return [*(self.stack[name] for name in named), *(one for found in passwords for one in found)]


# ---- what is declared ----

#: The models of the example, as they have to be found in both stores: backend, region, US dollars a million tokens.
VERTEX = {
    "claude-sonnet-4-6": ("vertex_ai/claude-sonnet-4-6", "us-east5", 3.00, 15.00),
    "claude-opus-4-6": ("vertex_ai/claude-opus-4-6-v1", "us-east5", 5.00, 25.00),
    "claude-sonnet-4-5": ("vertex_ai/claude-sonnet-4-5", "us-east5", 3.00, 15.00),
    "claude-3-5-haiku": ("vertex_ai/claude-3-5-haiku", "us-east5", 1.00, 5.00),
    "gemini-2.5-pro": ("vertex_ai/gemini-2.5-pro", "us-central1", 1.25, 10.00),
    "gpt-oss-120b": ("vertex_ai/openai/gpt-oss-120b-maas", "us-central1", 0.09, 0.36),
    "gpt-oss-20b": ("vertex_ai/openai/gpt-oss-20b-maas", "us-central1", 0.07, 0.25),
    "minimax-m2": ("vertex_ai/minimaxai/minimax-m2-maas", "us-central1", 0.30, 1.20),
    "qwen3-235b": ("vertex_ai/qwen/qwen3-235b-a22b-instruct-2507-maas", "us-central1", 0.22, 0.88),
}
EXAMPLE = CHECKOUT / "docs" / "examples" / "vertex_models.yml"


def served_models(upstream: str) -> list[dict[str, Any]]:
    """Three that the stack's upstream really serves."""
    return [
        {
            "model_name": "demo-chat",
            "litellm_model": "openai/demo-chat",
            "api_base": f"{upstream}/v1",
            "api_key": "sk-placeholder",
            "display_name": "Demo chat",
            "description": "Repeats what it hears",
            "category": "chat",
            "capabilities": ["chat", "function_calling", "tool_choice"],
            "context_length": 131072,
            # Dear, so that a budget is used up at once.
            "input_cost_per_million_tokens": 100.0,
            "output_cost_per_million_tokens": 100.0,
        },
        {
            "model_name": "demo-embeddings",
            "litellm_model": "openai/demo-embed",
            "api_base": f"{upstream}/v1",
            "api_key": "sk-placeholder",
            "display_name": "Demo embeddings",
            "category": "embeddings",
            "capabilities": ["embeddings"],
            "context_length": 8192,
        },
        {
            "model_name": "demo-documents",
            "litellm_model": "hosted_vllm/demo-convert",
            "api_base": upstream,
            "api_key": "sk-placeholder",
            "display_name": "Demo document conversion",
            "capabilities": ["document_conversion"],
        },
    ]


#: How each of the three is called, and what only the upstream can have answered. Documents go through the proxy's vLLM
#: route, which checks key and model as every other route does.
CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "demo-chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "What is a key?"}]}, "heard: What"),
    "demo-embeddings": ("/v1/embeddings", {"input": ["a virtual key"]}, "embedding"),
    "demo-documents": (
        "/vllm/v1/convert/source",
        {"sources": [{"kind": "http", "url": "https://example.com/lab.pdf"}]},
        "Converted by the test upstream",
    ),
}
FEATURES = {"demo-chat": "chat", "demo-embeddings": "embeddings", "demo-documents": "convert"}


# ---- the demo ----


@dataclass
class Demo:
    """The steps, in order. What one leaves behind for the next is in the attributes; key values are never printed."""

    stack: Stack
    ansible: Ansible
    guid: str = field(default_factory=lambda: f"demo{secrets.token_hex(3)}")
    #: alias -> value, as a participant has it.
    values: dict[str, str] = field(default_factory=dict, repr=False)
    every_value: set[str] = field(default_factory=set, repr=False)
    #: The same of the two keys with the tight limits.
    limited: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.served = {"ocp4_workload_litemaas_models_list": served_models(self.stack["UPSTREAM_URL"])}
        self.names = [*VERTEX, *CALLS]
        models = list(CALLS)
        aliases = [f"virtkey-{self.guid}-user{number}" for number in range(1, PARTICIPANTS + 1)]
        self.model_of = {alias: models[number % len(models)] for number, alias in enumerate(aliases)}
        self.participants = {
            "virtual_key_guid": self.guid,
            "virtual_key_duration": "3d",
            "virtual_key_max_budget": 5.0,
            "virtual_key_rpm_limit": 60,
            "virtual_key_tpm_limit": 100000,
            "virtual_keys": [
                {"key_alias": alias, "user_id": f"{alias.rsplit('-', 1)[1]}@lab.opentlc.com", "models": [model]}
                for alias, model in self.model_of.items()
            ],
        }
        self.limits = {
            "virtual_key_guid": f"{self.guid}-limits",
            "virtual_key_duration": "1d",
            "virtual_key_models": ["demo-chat"],
            "virtual_keys": [
                {"key_alias": f"virtkey-{self.guid}-rpm", "rpm_limit": 2},
                {"key_alias": f"virtkey-{self.guid}-budget", "max_budget": 0.0001},
            ],
        }

    def steps(self) -> Iterator[tuple[str, Callable[[], str | None]]]:
        yield f"{len(VERTEX)} Vertex models, in LiteLLM and in LiteMaaS's catalogue", self.vertex
        yield f"{len(CALLS)} models that are served here: chat, embeddings, document conversion", self.own
        yield "The two stores agree, says the sync", self.agree
        yield f"A key for each of {PARTICIPANTS} participants", self.issue
        yield "Every key calls its model through the proxy", self.call_all
        yield "A model that a key is not for is refused", self.forbidden
        yield "Two more keys, with 2 requests a minute and with a hundredth of a cent", self.issue_limits
        yield "More requests a minute than the key has are refused", self.over_rpm
        yield "A call past the key's budget is refused", self.over_budget
        yield "Check mode of all of it", self.check
        yield "All of it again", self.again
        yield "Every key lives a week from now", self.extend
        yield "One key gets a new value, its old one is refused", self.rotate
        yield "All keys deleted, none is honoured any more", self.delete
        yield f"A workshop of {WORKSHOP}, as Babylon orders it", self.provision
        yield "Every participant's key is tried before the room fills up", self.check_workshop
        yield "The lab is destroyed, and nothing of it is left", self.destroy
        yield f"The {len(self.names)} models taken away, in both stores", self.remove
        yield "No key value, master key or password in what Ansible printed", self.search_output

    # -- models --

    def apply_models(self, *arguments: str) -> int:
        """Both lists, each in a run of its own."""
        play, given = "rhpds.litemaas.manage_models", ("--extra-vars", f"@{EXAMPLE}", *arguments)
        return self.ansible.play(play, {}, *given) + self.ansible.play(play, self.served, *arguments)

    def vertex(self) -> str:
        self.ansible.play("rhpds.litemaas.manage_models", {}, "--extra-vars", f"@{EXAMPLE}")
        deployed = self.deployments(VERTEX)
        rows = self.catalogue(VERTEX)
        for name, (backend, region, dollars_in, dollars_out) in VERTEX.items():
            params, info = deployed[name]["litellm_params"], deployed[name]["model_info"]
            expect(params["model"] == backend, f"{name}: LiteLLM has {params['model']}, not {backend}")
            expect(params["vertex_location"] == region, f"{name}: region {params['vertex_location']}, not {region}")
            prices = [float(info[f"{side}_cost_per_token"]) * 1e6 for side in ("input", "output")]
            expect([round(price, 6) for price in prices] == [dollars_in, dollars_out], f"{name}: LiteLLM has {prices}")
            shown = [round(float(price) * 1e6, 6) for price in rows[name][1:3]]
            expect(shown == [dollars_in, dollars_out], f"{name}: LiteMaaS has {shown} US dollars a million tokens")
        return "backends, regions and prices as documented"

    def own(self) -> None:
        self.ansible.play("rhpds.litemaas.manage_models", self.served)
        self.deployments(CALLS)
        for name, row in self.catalogue(CALLS).items():
            expect(row[3][0] == FEATURES[name], f"{name}: LiteMaaS shows it as {row[3][0]}, not {FEATURES[name]}")

    def agree(self) -> str:
        changed = self.ansible.play("rhpds.litemaas.sync_databases", {})
        expect(changed == 0, "it found something to write")
        return "nothing to write"

    def deployments(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """LiteLLM's deployment of each name; exactly one each."""
        status, body = self.stack.call("GET", "/model/info", self.stack["LITELLM_MASTER_KEY"])
        listed = body["data"] if status == 200 else []
        found = [entry for entry in listed if entry["model_name"] in set(names)]
        expect(len(found) == len(set(names)), f"LiteLLM has {len(found)} deployments of {len(set(names))} models")
        return {entry["model_name"]: entry for entry in found}

    def catalogue(self, names: Iterable[str]) -> dict[str, tuple[Any, ...]]:
        """LiteMaaS's available row of each name: name, prices, features."""
        query = (
            "SELECT id, name, input_cost_per_token, output_cost_per_token, features FROM models"
            " WHERE availability = 'available' AND id = ANY(%s)"
        )
        found = {row[0]: row[1:] for row in self.stack.rows(query, list(names))}
        missing = sorted(set(names) - found.keys())
        expect(not missing, f"LiteMaaS's catalogue lacks {', '.join(missing)}")
        return found

    def remove(self) -> None:
        gone = ("--extra-vars", "ACTION=destroy")
        self.apply_models(*gone)
        status, body = self.stack.call("GET", "/model/info", self.stack["LITELLM_MASTER_KEY"])
        left = {entry["model_name"] for entry in body["data"]} & set(self.names) if status == 200 else set()
        expect(not left, f"LiteLLM still has {', '.join(sorted(left))}")
        query = "SELECT id FROM models WHERE availability = 'available' AND id = ANY(%s)"
        shown = [row[0] for row in self.stack.rows(query, self.names)]
        expect(not shown, f"LiteMaaS still shows {', '.join(shown)}")

    # -- keys --

    def apply_keys(self, action: str, values: dict[str, Any], *arguments: str) -> tuple[int, dict[str, str]]:
        """Number of tasks that changed something, and alias -> value where the action gives values."""
        # A file holds the keys of one run: written over by another list, it would count as changed.
        place = self.ansible.folder / f"{values.get('virtual_key_alias') or values['virtual_key_guid']}.json"
        given = {**values, "virtual_key_action": action, "virtual_key_file": str(place)}
        changed = self.ansible.play("rhpds.litemaas.manage_virtual_keys", given, *arguments)
        if action not in ("create", "rotate") or "--check" in arguments:
            return changed, {}
        expect(place.stat().st_mode & 0o077 == 0, "the file with the values can be read by others")
        found = {entry["key_alias"]: entry["key"] for entry in json.loads(place.read_text(encoding="utf-8"))}
        self.every_value |= set(found.values())
        return changed, found

    def issue(self) -> str:
        _changed, self.values = self.apply_keys("create", self.participants)
        expect(set(self.values) == set(self.model_of), f"{len(self.values)} keys were handed over")
        expect(len(set(self.values.values())) == PARTICIPANTS, "two participants have the same key")
        for alias, row in self.rows().items():
            expect(row["rpm_limit"] == 60 and row["max_budget"] == 5.0, f"{alias} lacks its limits")
            expect(row["models"] == [self.model_of[alias]], f"{alias} is for {row['models']}")
        return "each with its model, budget, limits and expiry"

    def rows(self) -> dict[str, dict[str, Any]]:
        """The participants' keys as the proxy lists them, by alias."""
        query = {"size": 100, "return_full_object": "true", "sort_by": "created_at", "sort_order": "desc"}
        listed = self.stack.admin("/key/list", **query)["keys"]
        found = {row["key_alias"]: row for row in listed if row["key_alias"] in self.model_of}
        expect(len(found) == PARTICIPANTS, f"the proxy lists {len(found)} of them")
        return found

    def use(self, key: str, model: str) -> tuple[int, str]:
        """Status and text of one call of a model with a key."""
        path, body, _sign = CALLS[model]
        status, answer = self.stack.call("POST", path, key, json={"model": model, **body})
        return status, answer if isinstance(answer, str) else json.dumps(answer)

    def call_all(self) -> str:
        def call(alias: str) -> str:
            model = self.model_of[alias]
            status, text = self.use(self.values[alias], model)
            return "" if status == 200 and CALLS[model][2] in text else f"{alias} calls {model}: {status} {text[:200]}"

        with ThreadPoolExecutor(8) as pool:
            troubles = [trouble for trouble in pool.map(call, self.model_of) if trouble]
        expect(not troubles, self.ansible.without_secrets("; ".join(troubles[:3])))
        return f"{PARTICIPANTS} of {PARTICIPANTS} answered, on the first call"

    def forbidden(self) -> str:
        alias = next(alias for alias, model in self.model_of.items() if model != "demo-chat")
        status, text = self.use(self.values[alias], "demo-chat")
        refused = status in (401, 403) and "key_model_access_denied" in text
        expect(refused, self.ansible.without_secrets(f"{status} {text[:200]}"))
        return f"{status} key_model_access_denied"

    def issue_limits(self) -> None:
        _changed, self.limited = self.apply_keys("create", self.limits)
        expect(len(self.limited) == 2, f"{len(self.limited)} keys were handed over")

    def over_rpm(self) -> str:
        key = self.limited[f"virtkey-{self.guid}-rpm"]
        # A minute may turn in between; then there are two more.
        statuses: list[int] = []
        while len(statuses) < 5 and 429 not in statuses:
            statuses.append(self.use(key, "demo-chat")[0])
        expect(statuses[-1] == 429 and set(statuses[:-1]) == {200}, f"the calls were answered with {statuses}")
        return f"{len(statuses) - 1} calls answered, then 429"

    def over_budget(self) -> str:
        key = self.limited[f"virtkey-{self.guid}-budget"]
        deadline = time.monotonic() + SPEND_SECONDS
        calls = 0
        while True:
            status, text = self.use(key, "demo-chat")
            if status != 200 or time.monotonic() > deadline:
                break
            calls += 1
            time.sleep(0.5)
        refused = status in (400, 422, 429) and "budget_exceeded" in text
        expect(calls and refused, self.ansible.without_secrets(f"{calls} calls answered, then {status} {text[:200]}"))
        return f"{status} budget_exceeded, once the spend of {calls} call{'s' * (calls > 1)} was booked"

    def check(self) -> str:
        changed = self.apply_models("--check") + self.apply_keys("create", self.participants, "--check")[0]
        expect(changed == 0, f"{changed} tasks would change something")
        return "0 to change"

    def again(self) -> str:
        before = {alias: row["token"] for alias, row in self.rows().items()}
        changed = self.apply_models()
        more, values = self.apply_keys("create", self.participants)
        expect(changed + more == 0, f"{changed + more} tasks changed something")
        expect(values == self.values, "the values are others")
        expect({alias: row["token"] for alias, row in self.rows().items()} == before, "the keys are others")
        return f"0 changed, the same {PARTICIPANTS} keys"

    def extend(self) -> str:
        self.apply_keys("extend", {"virtual_key_guid": self.guid, "virtual_key_duration": "7d"})
        now = datetime.now(timezone.utc)
        for alias, row in self.rows().items():
            ends = datetime.fromisoformat(str(row["expires"]).replace("Z", "+00:00"))
            ends = ends if ends.tzinfo else ends.replace(tzinfo=timezone.utc)
            expect(6.99 < (ends - now).total_seconds() / 86400 < 7.01, f"{alias} lives until {row['expires']}")
        status, text = self.use(*next((self.values[alias], model) for alias, model in self.model_of.items()))
        expect(status == 200, self.ansible.without_secrets(f"a call is answered with {status} {text[:200]}"))
        return f"{PARTICIPANTS} extended from 3 days"

    def rotate(self) -> str:
        alias, model = next(iter(self.model_of.items()))
        old = self.values[alias]
        _changed, values = self.apply_keys("rotate", {"virtual_key_alias": alias, "virtual_key_guid": self.guid})
        expect(list(values) == [alias] and values[alias] != old, "it did not get another value")
        statuses = self.use(values[alias], model)[0], self.use(old, model)[0]
        expect(statuses == (200, 401), f"new and old value are answered with {statuses}")
        before = {one: value for one, value in self.values.items() if one != alias}
        self.values = {**before, **values}
        _changed, again = self.apply_keys("create", self.participants)
        expect(again == self.values, "the next run hands over other values")
        return f"the other {PARTICIPANTS - 1} as they were"

    def delete(self) -> str:
        for guid in (self.guid, f"{self.guid}-limits"):
            self.apply_keys("delete", {"virtual_key_guid": guid})
        statuses = {self.use(value, self.model_of[alias])[0] for alias, value in self.values.items()}
        expect(statuses == {401}, f"calls are answered with {sorted(statuses)}")
        changed, _values = self.apply_keys("delete", {"virtual_key_guid": self.guid})
        expect(changed == 0, "deleting them again changed something")
        return f"{PARTICIPANTS + 2} deleted, by their guid"

    # -- a workshop --

    def workshop(self, playbook: str, *arguments: str) -> int:
        prefix = "ocp4_workload_litellm_virtual_keys_"
        values = {
            "guid": f"{self.guid}w",
            "num_users": WORKSHOP,
            "output_dir": str(self.ansible.folder),
            f"{prefix}models": ["demo-chat"],
            f"{prefix}max_budget": 5,
            f"{prefix}team": "per_lab",
            f"{prefix}team_max_budget": 100,
        }
        return self.ansible.play(f"rhpds.litemaas.{playbook}", values, *arguments)

    def provision(self) -> str:
        handout = self.ansible.folder / "handout.csv"
        self.workshop("provision_key", "--extra-vars", f"handout={handout}")
        with handout.open(encoding="utf-8", newline="") as rows:
            keys = [row["key"] for row in csv.DictReader(rows)]
        self.every_value |= set(keys)
        expect(len(set(keys)) == WORKSHOP, f"{len(set(keys))} keys were handed out")
        data = self.ansible.folder / "provision-user-data.yaml"
        expect(data.stat().st_mode & 0o077 == 0, "the user data can be read by others")
        expect(f"litellm_user{WORKSHOP}_virtual_key: {keys[-1]}" in data.read_text(), "user data has other values")
        expect(
            self.workshop("provision_key", "--extra-vars", f"handout={handout}") == 0, "a second run changed something"
        )
        return f"{WORKSHOP} keys in a team with a budget; a second run changed nothing"

    def check_workshop(self) -> str:
        self.workshop("check_workshop")
        return f"{WORKSHOP} of {WORKSHOP} would work"

    def destroy(self) -> str:
        self.workshop("destroy_key")
        query = {"size": 100, "return_full_object": "true", "sort_by": "created_at", "sort_order": "desc"}
        left = [
            key for key in self.stack.admin("/key/list", **query)["keys"] if f"{self.guid}w" in str(key["key_alias"])
        ]
        expect(not left, f"{len(left)} keys are left")
        status, _body = self.stack.call("GET", f"/team/info?team_id=lab-{self.guid}w", self.stack["LITELLM_MASTER_KEY"])
        expect(status == 404, f"the team answers {status}")
        return "keys and team gone, by the guid"

    # -- what was printed --

    def search_output(self) -> str:
        text = "\n".join(self.ansible.output)
        for secret in [*self.every_value, *self.ansible.secrets()]:
            expect(secret not in text, "a secret was printed")
        found = re.findall(r"sk-[A-Za-z0-9_-]{20,}", text)
        expect(not found, f"{len(found)} texts look like keys")
        return f"{len(text.splitlines())} lines of {len(self.ansible.output)} runs at -vv with --diff"


def main() -> int:
    display = Display()
    try:
        stack = Stack.up()
    except UnmetError as problem:
        print(problem)
        return 1
    print(f"rhpds.litemaas on LiteLLM {stack['LITELLM_VERSION']} and PostgreSQL, with the collection's own playbooks\n")
    try:
        with tempfile.TemporaryDirectory(prefix="litemaas-demo-") as folder:
            demo = Demo(stack, Ansible(stack, Path(folder)))
            for what, act in demo.steps():
                if not display.step(what, act):
                    break
    finally:
        stack.leave()
    return display.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted", file=sys.stderr)
        sys.exit(130)
