# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables that a playbook would ignore are found by name, for each playbook that asks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.rhpds.litemaas.plugins.lookup.mistaken_variables import COLLECTION, mistakes

ASKS = re.compile(r"query\('rhpds\.litemaas\.mistaken_variables', '(\w+)'(?:, prefix='(\w+)')?\)")
# Where a wrong name is dangerous: what deletes, repairs, backs up, restores or changes users.
DANGEROUS = {
    "cleanup_keys", "install_key_cleanup", "prune_key_archive", "sync_databases", "backup", "install_backup", "restore",
    "user_limits", "promote_admin",
}  # fmt: skip


def asking() -> dict[str, str]:
    """Name of each playbook that asks -> its prefix, or ''."""
    found = {}
    for file in sorted(Path(COLLECTION, "playbooks").glob("*.yml")):
        for name, prefix in ASKS.findall(file.read_text(encoding="utf-8")):
            assert name == file.stem
            found[name] = prefix
    return found


def documented(playbook: str) -> list[str]:
    """The variables that the playbook's first lines explain."""
    text = Path(COLLECTION, "playbooks", f"{playbook}.yml").read_text(encoding="utf-8")
    lines = re.findall(r"^#   ([a-z]\w+(?:, [a-z]\w+)*)(?:  |$)", text.partition("# Variables:")[2], re.MULTILINE)
    return [name for line in lines for name in line.split(", ")]


def test_the_dangerous_ask() -> None:
    assert asking().keys() >= DANGEROUS


@pytest.mark.parametrize("playbook", asking())
def test_what_is_documented_is_known_and_a_slip_is_not(playbook: str) -> None:
    prefix = asking()[playbook]
    names = documented(playbook)
    assert names
    assert mistakes(playbook, names, prefix) == []
    for name in names:
        if len(name) > 5:
            (said,) = mistakes(playbook, [name + "q"], prefix)
            assert said.startswith(f"{name}q is no variable of {playbook}: did you mean ") and name in said
        bare = name.removeprefix(f"{prefix}_")
        if prefix and bare != name and bare not in names:
            assert mistakes(playbook, [bare], prefix) == [f"{bare} is no variable of {playbook}: did you mean {name}?"]
            # Beside the right one it is somebody else's.
            assert mistakes(playbook, [bare, name], prefix) == []


def test_a_prefix_without_a_name_near_it() -> None:
    assert mistakes("cleanup_keys", ["cleanup_whatever"], "cleanup") == [
        "cleanup_whatever is no variable of cleanup_keys: cleanup_keys.yml begins with those that there are"
    ]


def test_a_role_s_variable() -> None:
    role = "ocp4_workload_litemaas_key_cleanup"
    assert mistakes("install_key_cleanup", [f"{role}_schedule", f"{role}_where"], "cleanup") == []
    (said,) = mistakes("install_key_cleanup", [f"{role}_shedule"], "cleanup")
    assert said.endswith(f"did you mean {role}_schedule?")
    (said,) = mistakes("install_key_cleanup", ["where"], "cleanup")
    assert said.endswith(f"did you mean {role}_where?")


def test_what_is_somebody_else_s_passes() -> None:
    others = ["guid", "ACTION", "agnosticd_user_info", "output_dir", "awx_job_id", "ansible_python_interpreter"]
    for playbook, prefix in asking().items():
        assert mistakes(playbook, others, prefix) == []
    # One file of variables for several playbooks.
    assert mistakes("backup", ["backup_hosts", "restore_databases", "cleanup_grace"], "backup") == []


def test_a_playbook_that_is_not_there() -> None:
    with pytest.raises(OSError, match=r"nothing\.yml"):
        mistakes("nothing", [])
