# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Deployment has of mounted Secrets, and what its pods answer."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import mounts
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError

PATH = "/etc/vertex-credentials/key.json"
DIGEST = hashlib.sha256(b"key").hexdigest()


def workload(replicas: int | None = 3, **spec: Any) -> mounts.Workload:
    container = {"name": "litellm"}
    template = {"spec": {"containers": [container]}}
    body = {"selector": {"matchLabels": {"b": "2", "a": "1"}}, "template": template, **spec}
    if replicas is not None:
        body["replicas"] = replicas
    return mounts.Workload({"metadata": {"name": "litellm"}, "spec": body}, "litellm")


@pytest.mark.parametrize(
    ("replicas", "strategy", "interrupts"),
    [
        (3, {}, False),
        (1, {"rollingUpdate": {"maxUnavailable": "25%"}}, False),
        (None, {"rollingUpdate": {"maxUnavailable": 1}}, True),
        (3, {"rollingUpdate": {"maxUnavailable": 1}}, False),
        (3, {"rollingUpdate": {"maxUnavailable": "100%"}}, True),
        (3, {"type": "Recreate"}, True),
        (0, {"rollingUpdate": {"maxUnavailable": 0}}, False),
    ],
)
def test_whether_a_rollout_leaves_nothing_serving(replicas, strategy, interrupts):
    assert bool(workload(replicas, strategy=strategy).interrupts) is interrupts


def test_labels_of_the_pods():
    assert workload().selector == "a=1,b=2"


def test_patches_hold_for_the_version_that_they_were_worked_out_from():
    """Others may have applied something since, with the same manager: it would be dropped."""
    spec = {"selector": {}, "template": {"spec": {"containers": [{"name": "litellm"}]}}}
    found = mounts.Workload({"metadata": {"name": "litellm", "resourceVersion": "7"}, "spec": spec}, "litellm")
    one = mounts.Mount("/etc/vertex", "key", "key")
    assert found.applied(mounts.Wanted({"key": one}))["metadata"] == {"name": "litellm", "resourceVersion": "7"}
    removal = found.removal(mounts.Wanted(gone={"key": one}))
    assert removal is not None and removal["metadata"] == {"resourceVersion": "7"}


def answers(monkeypatch: pytest.MonkeyPatch, *given: tuple[int, str, str]) -> list[str]:
    """Let pods answer so, one after the other; the programs that were asked for."""
    asked: list[str] = []
    left = list(given)

    def run(_cluster: Any, _namespace: str, _pod: str, _container: str, command: list[str]) -> tuple[int, str, str]:
        asked.append(command[0])
        assert command[-1] == PATH
        return left.pop(0)

    monkeypatch.setattr(mounts, "run", run)
    return asked


def differs(pod: str = "litellm-1") -> str:
    return mounts._differs(Cluster(), "litemaas", pod, "litellm", {PATH: DIGEST})


def test_a_file_is_compared(monkeypatch):
    assert answers(monkeypatch, (0, f"{DIGEST}  {PATH}\n", "")) == []
    assert differs() == ""
    answers(monkeypatch, (0, f"\\{DIGEST}  /a\\nb\n", ""))
    assert differs() == ""
    answers(monkeypatch, (0, f"{'0' * 64}  {PATH}\n", ""))
    assert differs() == f"{PATH} has another content"
    answers(monkeypatch, (1, "", f"sha256sum: {PATH}: Permission denied\n"))
    assert differs() == f"{PATH} can't be read: sha256sum: {PATH}: Permission denied"


def test_an_image_without_sha256sum_has_python(monkeypatch):
    missing = (-1, "", 'exec: "sha256sum": executable file not found in $PATH')
    asked = answers(monkeypatch, missing, (0, f"{DIGEST}\n", ""))
    assert differs() == ""
    assert asked == ["sha256sum", "python3"]
    answers(monkeypatch, missing, (127, "", "not found"), (126, "", "not executable"))
    with pytest.raises(ClusterError, match="neither sha256sum nor python3") as raised:
        differs()
    assert "executable file not found" in str(raised.value)


def test_the_program_for_python_works(tmp_path):
    file = tmp_path / "key.json"
    file.write_bytes(b"key")
    command = [sys.executable, *mounts.HASHERS[1][1:], str(file)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == DIGEST


def test_a_pod_that_has_gone_is_asked_no_more(monkeypatch):
    def gone(*_given: Any) -> None:
        raise ClusterError("Run", "not found", status=404)

    monkeypatch.setattr(mounts, "run", gone)
    assert differs() == "is gone"


def test_a_file_that_comes_late_is_waited_for(monkeypatch):
    monkeypatch.setattr(mounts, "ready_pods", lambda *_given: ["one", "two"])
    looks = iter(["", "has another content", "", ""])
    monkeypatch.setattr(mounts, "_differs", lambda *_given: next(looks))
    now = [0.0]
    seen = mounts.verify(
        Cluster(), "litemaas", workload(), {PATH: DIGEST}, 60, sleep=lambda _s: None, clock=lambda: now[0]
    )
    assert (seen.pods, seen.trouble) == (["one", "two"], {})
    monkeypatch.setattr(mounts, "_differs", lambda *_given: "has another content")
    now[0] = 100.0
    seen = mounts.verify(
        Cluster(), "litemaas", workload(), {PATH: DIGEST}, 0, sleep=lambda _s: None, clock=lambda: now[0]
    )
    assert seen.sentence() == "pod one: has another content; pod two: has another content"
