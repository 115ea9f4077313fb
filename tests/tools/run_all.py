# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The full test run: every check but benchmarks, on both LiteLLM versions, stopping at the first failure.

It starts stacks of its own, beside one that may be in use, and stops them however the run ends. What a cluster needs,
and may take minutes to build, is prepared in the background while lint and sanity run, with the units beside them. Then
both versions are tested side by side, each on its own stack, or on two where the machine has cores for four.

A few integration tests that fail are run once more by themselves, and molecule from its beginning: two proxies, two
databases and the tests share the machine, and a server that is late for once says nothing of the code. What passes only
then is named at the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

CHECKOUT = Path(__file__).resolve().parents[2]
VERSIONS = ("1.81.14", "1.106.0")
# pytest's last line, such as "==== 3 passed, 1 warning in 0.12s ====", and nothing else that looks like it
SUMMARY = re.compile(r"^=+ (?P<counts>[^=]*\d+ (?:passed|failed|error)[^=]*) in [\d.]+s.*=+$")
# How pytest names a test that failed, in the list at its end
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$")
# More than these are not chance.
MAY_FAIL_ONCE = 5
DURATIONS = "--durations=40"
LAST_FAILED = "--last-failed tests/integration tests/stack"
#: Scenarios that are about LiteLLM, for molecule
ANY_LITELLM = "--scenario-name models --scenario-name workshop"
#: What is tested beside one version: what is the same whichever LiteLLM runs, and what stands on the modules that are
#: tested on both, as molecule's scenarios of models and workshops are too. About half of the time beside each; the
#: first has the cluster's scenarios and the stack's own starts besides.
BESIDE_ONE = {
    VERSIONS[0]: (
        "integration/test_agnosticd.py",
        "integration/test_backend_sync.py",
        "integration/test_check_workshop.py",
        "integration/test_examples.py",
        "integration/test_harness.py",
        "integration/test_litellm_config.py",
        "integration/test_litemaas_db_sync.py",
        "integration/test_migration.py",
        "integration/test_namespace.py",
        "integration/test_playbooks.py",
        "integration/test_repairs.py",
        "integration/test_role_models.py",
        "integration/test_secrets.py",
        "integration/test_workshop.py",
        "integration/test_workshop_faults.py",
    ),
    VERSIONS[1]: (
        "integration/test_adopt.py",
        "integration/test_backup.py",
        "integration/test_branding.py",
        "integration/test_cluster_info.py",
        "integration/test_database_dump.py",
        "integration/test_deploy.py",
        "integration/test_docs.py",
        "integration/test_key_cleanup_role.py",
        "integration/test_kserve_model_info.py",
        "integration/test_litemaas_secrets.py",
        "integration/test_litemaas_user.py",
        "integration/test_operate.py",
        "integration/test_operator_playbooks.py",
        "integration/test_restore.py",
        "integration/test_rollout_status.py",
        "integration/test_rotate.py",
        "integration/test_status.py",
        "integration/test_status_page.py",
        "integration/test_tunnel.py",
        "integration/test_vertex_ai.py",
        "integration/test_vertex_credentials.py",
        "stack/test_cluster.py",
    ),
}
COUNT = re.compile(r"(\d+) (passed|failed|error|skipped)")


@dataclass(frozen=True)
class Lane:
    """What is tested on one stack, one after another, while other lanes do the same."""

    name: str
    version: str
    #: pytest's arguments
    tests: str
    #: molecule's, None for nothing of it
    scenarios: str | None


def lanes(cores: int) -> list[Lane]:
    """One for each version, and with four cores one more for each: a test mostly keeps one core busy."""
    made, wide = [], cores >= 4
    for version, own in BESIDE_ONE.items():
        scenarios = "" if version == VERSIONS[0] else ANY_LITELLM
        left_out = [one for other, files in BESIDE_ONE.items() if wide or other != version for one in files]
        tests = ["tests/integration tests/stack", *(f"--ignore=tests/{one}" for one in left_out)]
        made.append(Lane(version, version, " ".join([DURATIONS, *tests]), scenarios))
        if wide:
            alone = " ".join([DURATIONS, *(f"tests/{one}" for one in own)])
            made.append(Lane(f"{version}-alone", version, alone, None))
    return made


class Failed(Exception):
    """A step ended with an error, or the run was told to stop."""


class Run:
    """The steps done so far, their times, and what pytest counted."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float, str]] = []
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        #: By lane: the tests that failed in the last step; then those that passed when run again, of all versions.
        self.lost: dict[str, list[str]] = {}
        self.passed_again: list[str] = []
        #: Set where the rest shall not go on.
        self.ended = threading.Event()
        #: For each lane that has still to be shown what it printed while another one had its turn.
        self.held: dict[str, list[str]] = {}
        self.over: set[str] = set()
        self.lock = threading.Lock()

    def beside(self, work: Mapping[str, Callable[[], None]]) -> None:
        """Run lanes side by side, to the first failure. What one prints is read to its end before the next one's."""
        self.held, self.over = {lane: [] for lane in work}, set()

        def follow(lane: str) -> None:
            try:
                work[lane]()
            except BaseException:
                self.ended.set()
                raise
            finally:
                self.done(lane)

        with ThreadPoolExecutor(len(work)) as pool:
            try:
                for one in [pool.submit(follow, lane) for lane in work]:
                    one.result()
            except BaseException:
                self.ended.set()
                raise

    def say(self, line: str, lane: str) -> None:
        """Print a line; a lane's only when those before it are done."""
        with self.lock:
            if lane in list(self.held)[1:]:
                self.held[lane].append(line)
            else:
                print(line, end="", flush=True)

    def done(self, lane: str) -> None:
        """A lane is done: the next one that isn't has its turn."""
        with self.lock:
            self.over.add(lane)
            for first in list(self.held):
                print("".join(self.held[first]), end="", flush=True)
                self.held[first].clear()
                if first not in self.over:
                    break
                del self.held[first]

    def step(self, target: str, lane: str = "", version: str = "", **variables: str) -> None:
        """Run one make target, with these environment variables; raises Failed when it fails.

        Args:
            lane: the name of the lane it is a step of.
            version: of LiteLLM, for a target that needs the lane's stack.
        """
        name = f"{target} (LiteLLM {lane})" if version else target
        environment = dict(os.environ)
        for inherited in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS"):
            environment.pop(inherited, None)
        environment |= variables
        if version:
            place = CHECKOUT / ".cache" / f"test-{lane}"
            environment |= {"LITELLM_VERSION": version, "STACK_DIR": str(CHECKOUT / f".stack-test-{lane}")}
            environment |= {"COLLECTIONS": str(place / "collections"), "BUILD": str(place / "build")}
            environment["PYTEST_ADDOPTS"] = f"-o cache_dir={place / 'pytest'}"
        self.lost[lane] = []
        self.say(f"\n##### {name}\n", lane)
        started = time.monotonic()
        command = [os.environ.get("MAKE", "make"), "--no-print-directory", target]
        outcome = "failed"
        # its own session: an interrupt reaches this process alone, which then stops the step and the stack in order
        with subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            watcher = threading.Thread(target=self._stop, args=(process,), daemon=True)
            if target != "stack-down":
                watcher.start()
            try:
                for line in process.stdout:
                    self.say(line, lane)
                    self.count(line)
                    if found := FAILED.match(line.strip()):
                        self.lost[lane].append(found[1])
                outcome = "ok" if process.wait() == 0 else "failed"
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
            finally:
                self.times.append((name, time.monotonic() - started, outcome))
        if outcome != "ok":
            raise Failed(f"{name}: exit {process.returncode}")

    def _stop(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            if self.ended.wait(1):
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.killpg(process.pid, signal.SIGTERM)
                return

    def follow(self, lane: Lane) -> None:
        """Everything that is tested in a lane."""
        try:
            self.twice("integration", lane, STACK_TEST_STARTS="1" if lane.scenarios == "" else "", ARGS=lane.tests)
            if lane.scenarios is not None:
                self.twice("molecule", lane, ARGS=lane.scenarios)
        finally:
            self.step("stack-down", lane.name, lane.version)

    def static(self) -> None:
        """What needs no server and runs nothing."""
        for target in ("lint", "sanity"):
            self.step(target, "static")

    def units(self) -> None:
        """The unit tests."""
        self.step("units", "units")

    def twice(self, target: str, lane: Lane, **variables: str) -> None:
        """One step, and where little of it fails, that once more."""
        try:
            self.step(target, lane.name, lane.version, **variables)
        except Failed:
            # pytest names what failed; molecule begins anew.
            named = target == "integration"
            lost = self.lost[lane.name] if named else [target]
            if self.ended.is_set() or not 0 < len(lost) <= MAY_FAIL_ONCE:
                raise
            self.step(target, lane.name, lane.version, **{**variables, **({"ARGS": LAST_FAILED} if named else {})})
            with self.lock:
                self.failed -= len(lost) if named else 0
                self.passed_again += [f"{one} (LiteLLM {lane.version})" for one in lost]
                first = [name for name, _taken, _outcome in self.times].index(f"{target} (LiteLLM {lane.name})")
                self.times[first] = (*self.times[first][:2], "again")

    def count(self, line: str) -> None:
        """Add up what a closing line of pytest says."""
        match = SUMMARY.match(line.strip())
        for number, word in COUNT.findall(match["counts"]) if match else ():
            if word == "passed":
                self.passed += int(number)
            elif word == "skipped":
                self.skipped += int(number)
            else:
                self.failed += int(number)

    def report(self, seconds: float) -> None:
        """The steps with their times, then the line that a CI reads."""
        print("\n##### summary")
        for name, taken, outcome in self.times:
            print(f"{outcome:>7} {taken:7.1f} s  {name}")
        print(f"        {seconds:7.1f} s  in all")
        # A step without pytest that fails is a failure too.
        failed = self.failed or sum(step[2] == "failed" for step in self.times)
        for test in self.passed_again:
            print(f"failed, and passed when run again by itself: {test}")
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {failed} failed{skipped}", flush=True)


@contextlib.contextmanager
def preparing() -> Iterator[None]:
    """Build what the cluster needs meanwhile, with what the machine has left. A failure is the stack's to tell."""
    log = CHECKOUT / ".cache" / "prepare.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["nice", "-n", "19", sys.executable, str(CHECKOUT / "tests" / "stack" / "stack.py"), "prepare"]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            process.wait()


def stop(number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an exception, so that the stack is stopped on the way out."""
    raise Failed(f"stopped by {signal.Signals(number).name}")


def main() -> int:
    """0 when everything passed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    run = Run()
    status, started = 1, time.monotonic()
    try:
        with preparing():
            run.beside({"static": run.static, "units": run.units})
            run.step("install")  # venvs are made once
            run.beside({lane.name: partial(run.follow, lane) for lane in lanes(len(os.sched_getaffinity(0)))})
        status = 0
    except Failed as error:
        print(f"\n{error}", file=sys.stderr, flush=True)
    finally:
        run.report(time.monotonic() - started)
    return status


if __name__ == "__main__":
    sys.exit(main())
