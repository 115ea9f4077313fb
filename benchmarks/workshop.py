# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A workshop's whole playbooks, as Babylon runs them, beside a client that only makes the same keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import keys
from benchmarks.figures import Figure, beyond, say, timed
from benchmarks.lab import BenchError, Lab

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "stack"))
from faults import FaultProxy

ROLE = "ocp4_workload_litellm_virtual_keys"
#: Seconds that a whole playbook may take longer than the bare client's process.
BEYOND_BARE = 6
SECOND_RUN_LIMIT = 10
DESTROY_LIMIT = 5
#: The sizes that the two bars above speak of.
SECOND_RUN_SIZE, DESTROY_SIZE = 1000, 100
RECAP = re.compile(r"^localhost\s+: ok=(\d+)\s+changed=(\d+)", re.MULTILINE)


def measure(lab: Lab, sizes: Sequence[int], repeat: int) -> Iterator[Figure]:
    """Provision, provision again, destroy, for each number of participants."""
    model = f"{lab.prefix}workshop"
    lab.call("POST", "/model/new", json=keys.model_body(model, lab.variables["UPSTREAM_URL"]))
    _turn(lab, model, 1, "warm")
    alone = _turn(lab, model, 1, "one")
    for size in sizes:
        ours, bare, again, away, tasks = [], [], [], [], set()
        for number in range(repeat):
            keys.clear_archive(lab)  # the same start for every turn
            turn = _turn(lab, model, size, f"w{size}r{number}")
            keys.clear_archive(lab)
            bare.append(_bare(lab, model, size, number))
            ours.append(turn["provision"])
            again.append(turn["again"])
            away.append(turn["destroy"])
            tasks.add(turn["tasks"])
            say(
                f"{size} participants, round {number + 1}: provision {ours[-1]:.2f} s, bare {bare[-1]:.2f} s,"
                f" again {again[-1]:.2f} s, destroy {away[-1]:.2f} s"
            )
        yield beyond(f"provision {size} participants, whole playbook", ours, bare, BEYOND_BARE)
        yield timed(
            f"provision {size} again, whole playbook",
            again,
            limit=SECOND_RUN_LIMIT if size <= SECOND_RUN_SIZE else None,
        )
        yield timed(f"destroy {size}, whole playbook", away, limit=DESTROY_LIMIT if size <= DESTROY_SIZE else None)
        yield Figure(
            f"tasks at {size} participants",
            max(tasks),
            "",
            limit=alone["tasks"],
            note=f"{alone['tasks']} with a single participant",
        )
    yield _writes(lab, model, max(sizes))


def _turn(lab: Lab, model: str, size: int, name: str) -> dict[str, Any]:
    """Seconds of the three playbooks, and how many tasks the first one had."""
    guid = f"{lab.prefix}{name}"
    provision, recap = _playbook(lab, "provision_key", model, guid, size)
    again, second = _playbook(lab, "provision_key", model, guid, size)
    if second[1]:
        raise BenchError(f"provisioning {guid} again changed {second[1]} tasks")
    destroy, _recap = _playbook(lab, "destroy_key", model, guid, size)
    return {"provision": provision, "again": again, "destroy": destroy, "tasks": recap[0]}


def _playbook(lab: Lab, name: str, model: str, guid: str, size: int, url: str = "") -> tuple[float, tuple[int, int]]:
    folder = lab.folder / guid
    folder.mkdir(exist_ok=True)
    given = {
        "guid": guid,
        "num_users": size,
        "output_dir": str(folder),
        f"{ROLE}_multi_user": True,
        f"{ROLE}_models": [model],
        f"{ROLE}_duration": "7d",
        f"{ROLE}_max_budget": 5,
        f"{ROLE}_rpm_limit": 60,
        f"{ROLE}_tpm_limit": 100000,
        **({"litellm_url": url} if url else {}),
    }
    run = lab.play(f"rhpds.litemaas.{name}", given)
    found = RECAP.search(run.result["stdout"])
    if not found:
        raise BenchError(f"{name} printed no recap")
    return run.seconds, (int(found[1]), int(found[2]))


def _bare(lab: Lab, model: str, size: int, number: int) -> float:
    bodies = keys.bodies(lab, f"{lab.prefix}b{number}", size, {"managed_by": "nobody"}, model)
    run = lab.bare("/key/generate", bodies)
    keys.delete_bare(lab, bodies)
    return run.seconds


def _writes(lab: Lab, model: str, size: int) -> Figure:
    """What a second run writes: counted by a proxy in front, apart from the clock."""
    guid = f"{lab.prefix}count"
    _playbook(lab, "provision_key", model, guid, size)
    with FaultProxy(lab.url) as counter:
        # The endpoint is part of the user data, which this run's is then written to.
        _playbook(lab, "provision_key", model, guid, size, url=counter.url)
        writes = keys.writing(counter.targets)
    _playbook(lab, "destroy_key", model, guid, size)
    return Figure(f"provision {size} again, writes to the proxy", len(writes), "", limit=0)
