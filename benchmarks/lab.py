# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything is measured: a stack of the benchmarks' own, and processes with a clock and a peak beside it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import requests

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
STACK = CHECKOUT / ".stack-bench"
ENV_LINE = re.compile(r"^export ([A-Z_]+)=(.*)$")
PROCESS_SECONDS = 1800


class BenchError(Exception):
    """Something that was measured did not do what it was told: no figure is worth printing then."""


@dataclass(frozen=True)
class Run:
    """One process: how long it took from start to end, what it said, and the most memory it held."""

    seconds: float
    result: dict[str, Any]
    peak_mb: float = 0.0


@dataclass
class Lab:
    """The running stack, with its secrets, and a folder for what the processes leave behind."""

    variables: dict[str, str] = field(repr=False)
    folder: Path
    collections: Path
    session: requests.Session = field(default_factory=requests.Session, repr=False)
    #: Start of every name that this run makes.
    prefix: str = field(default_factory=lambda: f"bench-{secrets.token_hex(3)}-")

    @property
    def url(self) -> str:
        return self.variables["LITELLM_URL"]

    @property
    def version(self) -> str:
        return self.variables["LITELLM_VERSION"]

    def environment(self, **more: str) -> dict[str, str]:
        """What a process gets: the stack's addresses, the collection's place, and nobody's own settings."""
        settings = self.folder / "ansible.cfg"
        settings.touch()
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "LITE"))},
            **self.variables,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(self.collections),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_CONFIG": str(settings),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
            **more,
        }

    def module(self, name: str, args: dict[str, Any], *, url: str = "") -> Run:
        """Run a module as its own process, as Ansible would on a host. Raises BenchError when it fails."""
        path = self.collections / "ansible_collections/rhpds/litemaas/plugins/modules" / f"{name}.py"
        peak = self.folder / "peak"
        given = json.dumps({"ANSIBLE_MODULE_ARGS": {**args, "_ansible_remote_tmp": str(self.folder / "tmp")}})
        environment = self.environment(BENCH_PEAK=str(peak), LITELLM_URL=url or self.url)
        run = self._python("launcher.py", given, environment, str(path))
        if run.result.get("failed"):
            raise BenchError(f"{name} failed: {str(run.result.get('msg'))[:500]}")
        return Run(run.seconds, run.result, int(peak.read_text()) / 1024)

    def helper(self, script: str, work: dict[str, Any]) -> Run:
        """Run one of our own scripts with JSON in and out."""
        return self._python(script, json.dumps(work), self.environment())

    def bare(self, path: str, bodies: list[dict[str, Any]], connections: int = 8) -> Run:
        """Post every body with the bare client: a process, timed from start to end, as ours is.

        ``result["seconds"]`` is the time of its calls alone.
        """
        work: dict[str, Any] = {"url": self.url, "key": self.variables["LITELLM_MASTER_KEY"], "path": path}
        work |= {"bodies": bodies, "connections": connections}
        run = self.helper("bare_client.py", work)
        if run.result["accepted"] != len(bodies):
            raise BenchError(f"the bare client: {run.result['accepted']} of {len(bodies)} calls were accepted")
        return run

    def _python(self, script: str, given: str, environment: dict[str, str], *arguments: str) -> Run:
        command = [sys.executable, str(HERE / script), *arguments]
        started = time.perf_counter()
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_SECONDS,
            env=environment,
            cwd=self.folder,
        )
        seconds = time.perf_counter() - started
        try:
            return Run(seconds, json.loads(done.stdout))
        except ValueError:
            # The end of the error alone: what was given may hold key values.
            raise BenchError(f"{script} gave no result (exit {done.returncode}): {done.stderr[-1500:]}") from None

    def playbook(self, module: str, args: dict[str, Any]) -> float:
        """Seconds of a whole ansible-playbook with one task."""
        play = [
            {
                "hosts": "localhost",
                "connection": "local",
                "gather_facts": False,
                "tasks": [
                    {
                        "name": "Measured",
                        module: {name: f"{{{{ arguments['{name}'] }}}}" for name in args},
                        "register": "out",
                    }
                ],
            }
        ]
        path = self.folder / "playbook.yml"
        path.write_text(json.dumps(play), encoding="utf-8")
        return self.play(str(path), {"arguments": args}).seconds

    def play(self, playbook: str, values: dict[str, Any]) -> Run:
        """A whole ansible-playbook, from start to end; ``result["stdout"]`` is what it printed."""
        # JSON is YAML; a file, as somebody would have it, and not a command line of a megabyte.
        path = self.folder / "values.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(values), encoding="utf-8")
        command = ["ansible-playbook", "--inventory", "localhost,", "--connection", "local", playbook]
        command += ["--extra-vars", f"@{path}", "--extra-vars", f"ansible_python_interpreter={sys.executable}"]
        started = time.perf_counter()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_SECONDS,
            stdin=subprocess.DEVNULL,
            env=self.environment(),
            cwd=self.folder,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise BenchError(f"ansible-playbook ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
        return Run(seconds, {"stdout": done.stdout})

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One admin call that has to succeed."""
        headers = {"Authorization": f"Bearer {self.variables['LITELLM_MASTER_KEY']}"}
        answer = self.session.request(method, self.url + path, headers=headers, timeout=600, **options)
        if answer.status_code != 200:
            raise BenchError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def models(self) -> list[dict[str, Any]]:
        """Every deployment of the proxy; an empty list where it has none."""
        headers = {"Authorization": f"Bearer {self.variables['LITELLM_MASTER_KEY']}"}
        answer = self.session.get(f"{self.url}/model/info", headers=headers, timeout=600)
        return list(answer.json()["data"]) if answer.status_code == 200 else []

    def cpu_seconds(self) -> float:
        """Processor time so far of everything in the stack, and of every process that was run here to its end."""
        children = {child["pid"] for child in json.loads((STACK / "state.json").read_text())["children"]}
        ticks = 0
        for place in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # After the name, which may have blanks in it: state, parent, …, user and system time.
                values = place.read_text().rsplit(")", 1)[1].split()
                if int(place.parent.name) in children or int(values[1]) in children:
                    ticks += int(values[11]) + int(values[12])
        ours = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ticks / os.sysconf("SC_CLK_TCK") + ours.ru_utime + ours.ru_stime

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[Any]:
        """A cursor in LITELLM_DSN or LITEMAAS_DSN whose statements are committed one by one."""
        connection = psycopg2.connect(self.variables[name])
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


@contextlib.contextmanager
def stack(keep: bool = False) -> Iterator[Lab]:
    """The benchmarks' own stack, started here and stopped at the end unless it shall be kept."""
    collections = Path(os.environ.get("ANSIBLE_COLLECTIONS_PATH") or CHECKOUT / ".cache" / "tree")
    place = collections / "ansible_collections" / "rhpds" / "litemaas" / "plugins"
    if not place.is_dir():
        raise BenchError(f"the collection is not in {collections}: run this with make bench")
    _stack("up")
    try:
        with tempfile.TemporaryDirectory(prefix="litemaas-bench-") as folder:
            lines = (STACK / "env").read_text(encoding="utf-8").splitlines()
            found = [match for match in map(ENV_LINE.match, lines) if match]
            variables = {match[1]: "".join(shlex.split(match[2])) for match in found}
            yield Lab(variables, Path(folder), collections)
    finally:
        if not keep:
            _stack("down")


def _stack(command: str) -> None:
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "tests" / "stack" / "stack.py"), command],
        env={**os.environ, "STACK_DIR": str(STACK)},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"the stack did not go {command} (exit {done.returncode})")
