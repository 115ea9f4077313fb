# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the integration tests hold on to: the running stack, the proxy as its admin sees it, modules and playbooks."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import requests

from ansible_collections.rhpds.litemaas.tests.tools import collection_tree

CHECKOUT = collection_tree.CHECKOUT
ENV_LINE = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
RECAP_LINE = re.compile(r"^(\S+)\s+: (ok=\d+.*)$", re.MULTILINE)
COLOR = re.compile(r"\x1b\[[0-9;]*m")


class NoStackError(Exception):
    """No stack runs. Never a reason to skip: a test that did not run proves nothing."""


@dataclass(frozen=True)
class Stack:
    """Addresses and secrets of the running stack, from its ``env`` file."""

    variables: dict[str, str] = field(repr=False)  # a failing test prints its arguments

    @classmethod
    def running(cls) -> Stack:
        """The stack in $STACK_DIR, or .stack; raises NoStackError unless its proxy answers."""
        folder = Path(os.environ.get("STACK_DIR") or CHECKOUT / ".stack")
        how = "start it with: make stack-up"
        try:
            lines = (folder / "env").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise NoStackError(f"no stack runs in {folder}: {error.strerror}; {how}") from error
        variables = {}
        for line in lines:
            match = ENV_LINE.match(line.strip())
            if match:
                variables[match[1]] = "".join(shlex.split(match[2]))
        stack = cls(variables)
        try:
            requests.get(f"{stack.url}/health/liveliness", timeout=10).raise_for_status()
        except requests.RequestException as error:
            raise NoStackError(f"the stack in {folder} does not answer: {error}; {how}") from error
        return stack

    @property
    def url(self) -> str:
        """Root address of the LiteLLM proxy."""
        return self.variables["LITELLM_URL"]

    @property
    def master_key(self) -> str:
        """The proxy's master key."""
        return self.variables["LITELLM_MASTER_KEY"]

    @property
    def key_secret(self) -> str:
        """The secret that key values are derived from."""
        return self.variables["LITELLM_KEY_SECRET"]

    @property
    def version(self) -> tuple[int, ...]:
        """The proxy's version, such as (1, 81, 14)."""
        return tuple(int(part) for part in self.variables["LITELLM_VERSION"].split("."))

    @property
    def litellm_dsn(self) -> str:
        """LiteLLM's database; it also holds LiteMaaS's tables, the layout of older deployments."""
        return self.variables["LITELLM_DSN"]

    @property
    def litemaas_dsn(self) -> str:
        """LiteMaaS's own database."""
        return self.variables["LITEMAAS_DSN"]

    @property
    def upstream_url(self) -> str:
        """The OpenAI-compatible server that stands in for the models themselves."""
        return self.variables["UPSTREAM_URL"]


@dataclass
class LiteLLM:
    """The proxy's admin API, thinly: what a test asserts against, apart from the client under test."""

    url: str
    key: str = field(repr=False)
    dsn: str = field(repr=False)
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def request(self, method: str, path: str, *, key: str | None = None, **options: Any) -> tuple[int, Any]:
        """Status and body (parsed when it is JSON) of one request; never raises on a status."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        answer = self.session.request(method, self.url + path, headers=headers, timeout=60, **options)
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    def get(self, path: str, **query: Any) -> Any:
        """The body of a GET that has to succeed."""
        status, body = self.request("GET", path, params=query)
        assert status == 200, f"GET {path}: {status} {body}"
        return body

    def post(self, path: str, **body: Any) -> Any:
        """The body of the answer to a POST that has to succeed."""
        status, answer = self.request("POST", path, json=body)
        assert status == 200, f"POST {path}: {status} {answer}"
        return answer

    def models(self, prefix: str = "") -> list[dict[str, Any]]:
        """Deployments whose model name starts with the prefix, as /model/info shows them.

        A replica that was loading models from the database just when one was deleted brings that one back into its
        memory until it loads them again, 30 seconds later: it is waited for to agree with the database.
        """
        deadline = time.monotonic() + 120
        while True:
            shown = [entry for entry in self.get("/model/info")["data"] if entry["model_name"].startswith(prefix)]
            stored = self._stored_models()
            if all(one["model_info"]["id"] in stored or not one["model_info"].get("db_model") for one in shown):
                return shown
            assert time.monotonic() < deadline, f"{self.url} shows models that its database doesn't have: {shown}"
            time.sleep(1)

    def _stored_models(self) -> set[str]:
        connection = connect(self.dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute('SELECT model_id FROM "LiteLLM_ProxyModelTable"')
                return {row[0] for row in cursor.fetchall()}
        finally:
            connection.close()

    def keys(self, prefix: str = "") -> list[dict[str, Any]]:
        """Virtual keys whose alias starts with the prefix, from every page, oldest first."""
        found, page, pages = [], 1, 1
        while page <= pages:
            query = {"page": page, "size": 100, "sort_by": "created_at", "sort_order": "asc"}
            body = self.get("/key/list", return_full_object="true", **query)
            found += [key for key in body["keys"] if (key.get("key_alias") or "").startswith(prefix)]
            page, pages = page + 1, body["total_pages"]
        return found

    def chat(self, model: str, key: str) -> tuple[int, Any]:
        """One chat call with a virtual key: status and body."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        return self.request("POST", "/v1/chat/completions", key=key, json=body)

    def teams(self, prefix: str = "") -> list[dict[str, Any]]:
        """Teams whose id starts with the prefix."""
        return [team for team in self.get("/team/list") if team["team_id"].startswith(prefix)]

    def remove(self, prefix: str) -> None:
        """Delete every key, every team and every deployment under the prefix."""
        tokens = [key["token"] for key in self.keys(prefix)]
        for start in range(0, len(tokens), 100):
            self.post("/key/delete", keys=tokens[start : start + 100])
        for team in self.teams(prefix):
            self.post("/team/delete", team_ids=[team["team_id"]])
        for model in self.models(prefix):
            self.post("/model/delete", id=model["model_info"]["id"])


class ModuleResult(dict[str, Any]):
    """What a module returned, with the two questions every test asks."""

    @property
    def changed(self) -> bool:
        """Whether it changed something, or in check mode would have."""
        return bool(self.get("changed"))

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return bool(self.get("failed"))


@dataclass(frozen=True)
class PlaybookResult:
    """How a run of ansible-playbook ended."""

    rc: int
    stdout: str
    stderr: str

    @property
    def stats(self) -> dict[str, dict[str, int]]:
        """The recap: for each host ok, changed, unreachable, failed, skipped, rescued, ignored."""
        counts = {}
        for host, words in RECAP_LINE.findall(self.stdout):
            counts[host] = {name: int(number) for name, number in (word.split("=") for word in words.split())}
        return counts

    @property
    def changed(self) -> int:
        """Number of tasks that changed something, on all hosts."""
        return sum(host["changed"] for host in self.stats.values())

    @property
    def output(self) -> str:
        """Everything that was printed: for secrets to be looked for."""
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Runner:
    """Runs modules and playbooks of the collection as installed, with the stack's variables in the environment."""

    stack: Stack
    folder: Path

    def environment(self) -> dict[str, str]:
        """The environment of a run: the collection's place, the stack, no colour, nothing left in the home."""
        settings = self.folder / "ansible.cfg"  # empty, so that nobody's own settings are found
        settings.touch()
        collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(collection_tree.ensure())
        return {
            **os.environ,
            **self.stack.variables,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": collections,
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "ANSIBLE_CONFIG": str(settings),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        }

    def module(
        self,
        name: str,
        args: dict[str, Any],
        *,
        check: bool = False,
        diff: bool = False,
        env: dict[str, str] | None = None,
    ) -> ModuleResult:
        """Run a module's file as Ansible runs it on a host, arguments on standard input: the real thing in 0.4 s.

        It passes by action plugins and by Ansible's own printing; what those do is tested with a playbook.
        """
        environment = {**self.environment(), **(env or {})}
        roots = environment["PYTHONPATH"].split(os.pathsep)
        files = [Path(root) / "ansible_collections/rhpds/litemaas/plugins/modules" / f"{name}.py" for root in roots]
        path = next((file for file in files if file.exists()), None)
        assert path, f"no module {name} in {environment['PYTHONPATH']}"
        settings = {"_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": str(self.folder)}
        done = subprocess.run(
            [sys.executable, str(path)],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {**args, **settings}}),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env=environment,
            cwd=self.folder,
        )
        try:
            result = ModuleResult(json.loads(done.stdout))
        except ValueError as error:
            said = f"{done.stdout}\n{done.stderr}"
            raise AssertionError(f"{name} returned {done.returncode} and no JSON:\n{said}") from error
        assert result.failed == bool(done.returncode), f"{name}: exit code {done.returncode} with {result}"
        return result

    def playbook(
        self,
        playbook: str | Path,
        extra_vars: dict[str, Any] | None = None,
        *,
        check: bool = False,
        diff: bool = False,
        verbosity: int = 0,
        env: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> PlaybookResult:
        """Run a playbook on localhost: its text, its path, or its name such as ``rhpds.litemaas.manage_models``."""
        command = self.command(playbook, extra_vars)
        command += [*["--check"] * check, *["--diff"] * diff, *["-" + "v" * verbosity] * bool(verbosity), *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
            stdin=subprocess.DEVNULL,
            env={**self.environment(), **(env or {})},
            cwd=self.folder,
        )
        return PlaybookResult(done.returncode, COLOR.sub("", done.stdout), COLOR.sub("", done.stderr))

    def command(self, playbook: str | Path, extra_vars: dict[str, Any] | None = None) -> list[str]:
        """The command of such a run, for a test that starts it by itself."""
        if isinstance(playbook, str) and "\n" in playbook:
            path = self.folder / "playbook.yml"
            path.write_text(playbook, encoding="utf-8")
            playbook = path
        values = self.folder / "extra_vars.json"
        values.touch(mode=0o600)
        values.write_text(json.dumps(extra_vars or {}), encoding="utf-8")
        command = ["ansible-playbook", "--inventory", "localhost,", "--connection", "local", str(playbook)]
        return [*command, "--extra-vars", f"@{values}", "--extra-vars", f"ansible_python_interpreter={sys.executable}"]


def connect(dsn: str) -> Any:
    """A connection that commits each statement, so that a test sees what is there now."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    return connection


def remove_catalogue_rows(dsn: str, prefix: str) -> None:
    """Delete the catalogue's models under the prefix, and what hangs on them, where the tables exist."""
    connection = connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('models')")
            if cursor.fetchone()[0]:
                cursor.execute("DELETE FROM subscriptions WHERE starts_with(model_id, %s)", (prefix,))
                cursor.execute("DELETE FROM models WHERE starts_with(id, %s)", (prefix,))
    finally:
        connection.close()
