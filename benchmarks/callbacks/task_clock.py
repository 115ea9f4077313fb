# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback that writes down which tasks ran, and how long each took, into the current folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_clock
type: aggregate
short_description: Seconds of each task that ran
description: Skipped tasks are left out.
"""


class CallbackModule(CallbackBase):
    """Of each task: name, action, seconds."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_clock"

    def __init__(self) -> None:
        super().__init__()
        self._started = 0.0
        self._tasks: list[dict[str, Any]] = []

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002  Ansible names them
        self._started = time.perf_counter()

    def v2_runner_on_ok(self, result: Any) -> None:
        task = getattr(result, "task", None) or result._task
        seconds = time.perf_counter() - self._started
        self._tasks.append({"name": task.get_name(), "action": task.action, "seconds": seconds})

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002
        Path("tasks.json").write_text(json.dumps(self._tasks), encoding="utf-8")
