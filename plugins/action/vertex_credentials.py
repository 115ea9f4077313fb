# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module without a trace of the key on the disk of whichever host it runs on.

Ansible writes a module with its arguments into a temporary file, and leaves it there when it is told to keep such files
or is killed. Through a pipe nothing is written; that is otherwise up to the user's settings.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """See the module of the same name."""

    TRANSFERS_FILES = False
    # The arguments of an asynchronous task wait in a file.
    _supports_async = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        super().run(tmp, task_vars)
        if self._has_content() and not self._can_pipe():
            raise AnsibleActionFail(
                "content would be written to a file on the host that the module runs on, as its connection"
                f" ({self._connection.transport}) or become method takes no pipe: give src, a file on that host, or run"
                " it on localhost"
            )
        # Some connection plugins print what goes through them at -vvv unless the play says not to.
        before, self._play_context.no_log = self._play_context.no_log, True
        try:
            result: dict[str, Any] = self._execute_module(module_args=self._task.args, task_vars=task_vars)
        finally:
            self._play_context.no_log = before
        return result

    def _has_content(self) -> bool:
        items = self._task.args.get("credentials")
        listed = items if isinstance(items, list) else []
        return any(isinstance(one, dict) and one.get("content") for one in (self._task.args, *listed))

    def _can_pipe(self) -> bool:
        become = self._connection.become
        return bool(
            self._connection.has_pipelining and (become is None or getattr(become, "pipelining", become.name != "su"))
        )

    def _is_pipelining_enabled(self, module_style: str, wrap_async: bool = False) -> bool:
        """Through a pipe wherever there is one, whatever the settings say."""
        return module_style == "new" and not wrap_async and self._can_pipe()
