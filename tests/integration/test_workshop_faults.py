# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with a workshop's keys in production, one thing after the other: each is survived, or said."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness, labs
from ansible_collections.rhpds.litemaas.tests.stack.faults import FaultProxy

GENERATE = "/key/generate"


@pytest.fixture
def faults(stack: harness.Stack) -> Iterator[FaultProxy]:
    """A way to the proxy that disturbs."""
    with FaultProxy(stack.url) as proxy:
        yield proxy


def settled(lab: labs.Lab, users: int) -> None:
    """Everybody has one key, knows its value, and can call; another run finds nothing to do."""
    again = lab.good(num_users=users)
    assert again.changed == 0, again.output
    assert lab.data == lab.expected(users)
    lab.calls()


def test_passing_troubles_are_survived(lab: labs.Lab, faults: FaultProxy) -> None:
    for number, action in enumerate(
        ["unavailable", "reset", "reset_after", "error_after", "pool_exhausted", "rate_limited"]
    ):
        faults.add_rule("POST", GENERATE, action, count=2, skip=3 * number)
    faults.add_rule("GET", "/key/list", "unavailable")
    faults.add_rule("POST", "/v2/key/info", "reset")
    faults.add_rule("GET", "/v1/models", "rate_limited")
    done = lab.good(num_users=24, litellm_url=faults.url)
    assert "24 virtual keys: 24 created" in done.output
    lab.good(num_users=24)  # the address of the disturbing way is in the user data
    settled(lab, 24)


def test_lasting_troubles_are_said_and_the_next_run_goes_on(lab: labs.Lab, faults: FaultProxy) -> None:
    faults.add_rule("POST", GENERATE, "unavailable", count=None, skip=5)
    done = lab.run(num_users=12, litellm_url=faults.url, role={"retry_count": 1})
    assert done.rc != 0
    assert "12 virtual keys: 5 created, 7 failed" in done.output
    assert "503" in done.output
    assert len(lab.keys()) == 5
    delivered = {name: user["litellm_virtual_key"] for name, user in lab.data["users"].items()}
    assert len(delivered) == 5
    lab.good(num_users=12)
    settled(lab, 12)
    assert {name: lab.data["users"][name]["litellm_virtual_key"] for name in delivered} == delivered


def test_an_answer_of_an_earlier_moment_makes_no_twins(lab: labs.Lab, faults: FaultProxy) -> None:
    lab.good(num_users=4)
    before = lab.data["litellm_virtual_keys"]
    # Every list is of before the keys were made: the store that was read then had none.
    faults.add_rule("GET", "/key/list", "empty_page", count=None)
    done = lab.run(num_users=4, litellm_url=faults.url)
    faults.clear()
    assert len(lab.keys()) == 4, done.output
    lab.good(num_users=4)
    assert lab.data["litellm_virtual_keys"] == before
    settled(lab, 4)


def test_a_replica_that_has_not_heard_of_the_model(lab: labs.Lab, stack: harness.Stack, prefix: str) -> None:
    other = stack.variables["LITELLM_REPLICA_URLS"].split(",")[-1]
    params = {"model": "openai/demo-chat", "api_base": f"{stack.upstream_url}/v1", "api_key": "sk-placeholder"}
    lab.litellm.post("/model/new", model_name=f"{prefix}new", litellm_params=params, model_info={})
    lab.models = [f"{prefix}new"]
    deadline = time.monotonic() + 150
    while (done := lab.run(litellm_url=other)).rc and time.monotonic() < deadline:
        # It says so, and has made nothing that would not work.
        assert f"models not on the proxy: {prefix}new" in done.output
        assert lab.keys() == {}
        time.sleep(5)
    assert done.rc == 0, done.output
    assert (
        harness.LiteLLM(other, stack.master_key, stack.litellm_dsn).chat(*lab.models, lab.data["litellm_virtual_key"])[
            0
        ]
        == 200
    )


def test_a_run_that_is_killed_in_the_middle(lab: labs.Lab, faults: FaultProxy, runner: harness.Runner) -> None:
    faults.add_rule("POST", GENERATE, "delay", count=None, seconds=1.0)
    command = runner.command("rhpds.litemaas.provision_key", lab.variables(num_users=40, litellm_url=faults.url))
    with subprocess.Popen(
        command,
        env=runner.environment(),
        cwd=runner.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while len(lab.keys()) < 8 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    made = lab.keys()
    assert 8 <= len(made) < 40
    faults.clear()
    lab.good(num_users=40)
    assert {alias: row["token"] for alias, row in lab.keys().items() if alias in made} == {
        alias: row["token"] for alias, row in made.items()
    }
    settled(lab, 40)


def test_two_runs_for_one_lab_at_once(lab: labs.Lab, stack: harness.Stack, tmp_path: Path) -> None:
    twins = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        twins.append(labs.Lab(harness.Runner(stack, tmp_path / name), lab.litellm, lab.guid, lab.models))
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda twin: twin.run(num_users=20), twins))
    assert [one.rc for one in done] == [0, 0], done[0].output + done[1].output
    assert len(lab.keys()) == 20
    assert twins[0].data == twins[1].data == twins[0].expected(20)
    settled(twins[0], 20)


def test_destroy_finds_its_keys_among_those_of_others(lab: labs.Lab, litellm: harness.LiteLLM, prefix: str) -> None:
    def other(number: int) -> str:
        # Some look like the lab's own: of a guid that begins like it, and named as if it were a participant's key.
        alias = f"{prefix}other{number}" if number % 3 else f"virtkey-{lab.guid}-user{number}"
        metadata = {"guid": f"{lab.guid}x", "managed_by": "rhpds.litemaas", "scope": ""}
        return str(litellm.post("/key/generate", key_alias=alias, models=lab.models, metadata=metadata)["token"])

    with ThreadPoolExecutor(8) as pool:
        others = set(pool.map(other, range(1000, 1250)))
    lab.good(num_users=30)
    late: list[str] = []
    stop = threading.Event()

    def go_on() -> None:
        number = 2000
        while not stop.is_set():
            late.append(other(number))
            number += 1

    adder = threading.Thread(target=go_on)
    adder.start()
    try:
        done = lab.good("destroy_key")
    finally:
        stop.set()
        adder.join()
    assert "30 virtual keys: 30 deleted" in done.output
    left = {key["token"] for key in [*litellm.keys(prefix), *litellm.keys(f"virtkey-{lab.guid}")]}
    assert late
    assert left == others | set(late)


@pytest.mark.parametrize("playbook", ["provision_key", "destroy_key", "extend_key"])
@pytest.mark.parametrize("trouble", ["down", "wrong key"])
def test_a_proxy_that_cannot_be_asked_is_a_failure(lab: labs.Lab, playbook: str, trouble: str) -> None:
    wrong: dict[str, Any] = {"litellm_url": "http://127.0.0.1:9"} if trouble == "down" else {}
    wrong |= {"litellm_master_key": "sk-wrong-4b1d0e7f2a"} if trouble != "down" else {}
    done = lab.run(playbook, num_users=3, role={"retry_count": 1}, **wrong)
    assert done.rc != 0
    assert ("Connection refused" if trouble == "down" else "401") in done.output
    assert list(lab.folder.iterdir()) == []
    assert "sk-wrong-4b1d0e7f2a" not in done.output


def test_nothing_secret_is_printed(lab: labs.Lab, stack: harness.Stack) -> None:
    output = []
    handout = str(lab.folder / "keys.csv")

    def run(playbook: str = "provision_key", **options: Any) -> None:
        output.append(lab.run(playbook, num_users=3, verbosity=3, diff=True, handout=handout, **options).output)

    older = lab.older_key(f"virtkey-{lab.guid}")
    run(role={"team": "per_lab"})
    values = [older, *lab.data["litellm_virtual_keys"]]
    run(role={"max_budget": 3})
    run(litellm_master_key=stack.master_key, litellm_key_secret=stack.key_secret, litellm_dsn=stack.litellm_dsn)
    lab.litellm.post("/key/update", key=lab.keys()[f"virtkey-{lab.guid}-user2"]["token"], blocked=True)
    run()
    output.append(lab.run(verbosity=3, diff=True, role={"on_unrecoverable": "rotate"}).output)
    values.append(lab.data["litellm_virtual_key"])
    run("extend_key")
    run("check_workshop")
    run("destroy_key", check=True)
    run("destroy_key", role={"team": "per_lab"})
    assert lab.keys() == {}
    text = "\n".join(output)
    assert len(values) == len(set(values)) == 5
    assert "user.info: LiteMaaS Virtual Key: (" in text
    for secret in (*values, stack.master_key, stack.key_secret, stack.litellm_dsn):
        assert secret not in text
