# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module and keeps the values of keys out of the output.

A result with values in it is marked so that callbacks hide it, at any verbosity; the one line that says what happened,
and the diff, are shown by us instead, on standard error, as a callback may own standard output. The registered variable
holds everything.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

TOKEN = re.compile(r"[0-9a-f]{64}")


class ActionModule(ActionBase):
    """See the module of the same name."""

    TRANSFERS_FILES = False
    # The result of an asynchronous task is fetched by another one, which would print the values.
    _supports_async = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result, with the values that the caller knew put in."""
        super().run(tmp, task_vars)
        arguments, known = self._without_values()
        # Some connection plugins print a module's raw output at -vvv unless the play says not to.
        before, self._play_context.no_log = self._play_context.no_log, True
        try:
            result: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        finally:
            self._play_context.no_log = before
        self._put_known_values(result, known)
        entries = result.get("results") or ()
        if self._task.no_log or any(entry.get("key") for entry in entries):
            self._show(result)
            # ansible-core 2.19 takes any "results" for those of a loop, and shows each that does not say so itself.
            for one in (result, *entries):
                one["_ansible_no_log"] = True
        return result

    def _without_values(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The module's arguments with sha256 in the place of ``known_values``, and those values by it."""
        given = self._task.args.get("known_values")
        if isinstance(given, str):
            given = given.split(",")  # as the module would
        if not isinstance(given, list):
            return dict(self._task.args), {}
        tokens = {}
        for value in (str(one) for one in given if one):
            tokens[value if TOKEN.fullmatch(value) else hashlib.sha256(value.encode()).hexdigest()] = value
        return {**self._task.args, "known_values": list(tokens)}, tokens

    def _put_known_values(self, result: dict[str, Any], known: dict[str, str]) -> None:
        if not boolean(self._task.args.get("return_values", True), strict=False):
            return
        for entry in result.get("results") or ():
            value = known.get(entry.get("token") or "")
            if entry.get("action") == "rotate":  # in check mode: it would not keep the value
                continue
            if entry.get("key_source") == "given" and value and not TOKEN.fullmatch(value):
                entry["key"] = value

    def _show(self, result: dict[str, Any]) -> None:
        if self._task.no_log:
            return
        text = f"litellm_virtual_key: {result.get('msg', '')}"
        if result.get("failed"):
            display.error(text, wrap_text=False)
        else:
            display.display(text, stderr=True)
        diff = result.get("diff") or {}
        if self._task.diff and (diff.get("before") or diff.get("after")):
            lines = difflib.unified_diff(
                str(diff["before"]).splitlines(), str(diff["after"]).splitlines(), "before", "after", lineterm="", n=0
            )
            for line in lines:
                display.display(line, stderr=True)
