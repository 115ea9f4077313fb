# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes AgnosticD's user info and user data, all participants at once, or has agnosticd.core do it.

Nothing of the data is in the result that callbacks print. The lines for the user are our own display.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.plugins import action as action_plugins
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import isidentifier

from ansible_collections.rhpds.litemaas.plugins.plugin_utils import user_data
from ansible_collections.rhpds.litemaas.plugins.plugin_utils.user_data import Files, Request, UserDataError

display = Display()

NAME = "rhpds.litemaas.agnosticd_user_info"
TYPES = {
    "msg": "texts",
    "body": "str",
    "data": "dict",
    "user": "str",
    "users": "dict",
    "data_prefix": "str",
    "facts": "dict",
    "hidden": "texts",
}
EXCLUSIVE = (("msg", "body"), ("user", "users"))


class ActionModule(ActionBase):
    """See the module of the same name."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """What was written, in names and numbers."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        try:
            result.update(self._work(variables))
        except UserDataError as problem:
            result.update(failed=True, changed=False, msg=f"agnosticd_user_info: {problem}")
        # A loop's items are printed with the result, and may hold what is not to be seen.
        if result.get("ansible_facts") or "ansible_loop_var" in variables:
            result["_ansible_no_log"] = True
            if result.get("failed"):
                display.error(result["msg"], wrap_text=False)
        return result

    def _work(self, variables: dict[str, Any]) -> dict[str, Any]:
        core = self._core()
        own = checked(self._task.args, strict=True)
        defaults = self._core_defaults(variables)
        for name, value in checked(defaults, strict=False).items():
            excluded = any(name in pair and any(other in own for other in pair) for pair in EXCLUSIVE)
            if name not in self._task.args and not excluded:  # an empty text given in the task is an answer too
                own[name] = value
        facts, hidden = own.pop("facts", {}), tuple(own.pop("hidden", ()))
        request = Request(**own)
        files = Files.found(variables, self._templar.template)
        if self._task.check_mode:
            files.check_folder()
            result, _present, _new = planned(files, request)
        else:
            files.make_folder()
            files.check_folder()
            with files.locked():
                result, present, new = planned(files, request)
                files.close_to_others()
                printed: tuple[str, ...] = ()
                if core is None:
                    written_by_us(files, request, present, new)
                else:
                    others = {name: value for name, value in defaults.items() if name not in TYPES}
                    printed = self._written_by_core(core, others, files, request, present, new, hidden, variables)
                files.close_to_others()
            for text in request.said:
                if text not in printed:
                    kind = "user.info" if request.msg else "user.body"
                    display.display(f"{kind}: {user_data.covered(text, hidden)}")
        if facts:
            result["ansible_facts"] = facts
            self._set_as_variables(facts)
        return result

    def _set_as_variables(self, facts: dict[str, Any]) -> None:
        """From ansible-core 2.21 on facts can be what set_fact makes: they win over a play's variables, uncached."""
        layers = getattr(action_plugins, "VariableLayer", None)
        if layers is not None:
            self.register_host_variables({}, layers.CACHEABLE_FACT)
            self.register_host_variables(facts, layers.EPHEMERAL_FACT)

    def _core(self) -> str | None:
        """The full name of agnosticd.core's plugin, where it is installed and isn't this one under another name."""
        if not user_data.core_is_installed():
            return None
        context = self._shared_loader_obj.action_loader.find_plugin_with_context(user_data.CORE_USER_INFO)
        if not context.resolved or context.resolved_fqcn == NAME:
            return None
        if Path(context.plugin_resolved_path).resolve() == Path(__file__).resolve():
            return None
        return user_data.CORE_USER_INFO

    def _core_defaults(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The play's module_defaults for agnosticd.core's plugin: AgnosticD knows that name only."""
        merged: dict[str, Any] = {}
        for defaults in self._task.module_defaults or ():
            merged.update(defaults)
        found = self._templar.template(merged.get(user_data.CORE_USER_INFO) or {})
        omitted = variables.get("omit")
        return {str(name): value for name, value in dict(found).items() if omitted is None or value != omitted}

    def _written_by_core(
        self,
        core: str,
        others: dict[str, Any],
        files: Files,
        request: Request,
        present: dict[str, Any],
        new: tuple[str, ...],
        hidden: tuple[str, ...],
        variables: dict[str, Any],
    ) -> tuple[str, ...]:
        """Have agnosticd.core write what isn't there yet, in one call. Returns the texts that it has printed."""
        wanted = files.merged(request, present)
        arguments: dict[str, Any] = {}
        # It prints what it is given, so that what isn't to be seen is written by us.
        ours = any(user_data.covered(text, hidden) != text for text in request.said)
        handed: tuple[str, ...] = ()
        if request.users or (request.user and ours):
            # It takes one participant a call, each with a rewrite of the file. All of them are one value to it.
            arguments["data"] = {name: wanted[name] for name in user_data.differing(present, wanted)}
        elif wanted != present:
            arguments["data"] = request.data
            arguments["data_prefix"] = request.data_prefix
            arguments["user"] = request.user
        if new and not ours:
            handed = new
            arguments["msg" if request.msg else "body"] = list(new) if len(new) > 1 else new[0]
            arguments["user"] = request.user
        arguments = {name: value for name, value in arguments.items() if value}
        if arguments.keys() & {"data", "msg", "body"}:
            self._call(core, {**others, **arguments}, variables)
        if new and ours and not request.user:
            files.append(files.info if request.msg else files.body, new)
        return handed

    def _call(self, core: str, arguments: dict[str, Any], variables: dict[str, Any]) -> None:
        arguments = user_data.plain(arguments, "module_defaults")
        task = self._task.copy()
        task.args = dict(arguments)
        plugin = self._shared_loader_obj.action_loader.get(
            core,
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        try:
            with owner_only():
                result = plugin.run(task_vars=variables)
        except Exception as problem:  # noqa: BLE001 - whatever goes wrong there may quote what it was given
            said = f"{type(problem).__name__}: {problem}"
            raise UserDataError(f"{core} failed: {without_values(said, arguments)}") from None
        if result.get("failed"):
            reason = result.get("error") or result.get("msg") or "without a reason"
            raise UserDataError(f"{core} failed: {without_values(str(reason), arguments)}")


def planned(files: Files, request: Request) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """The result, the user data as they are, and the texts that aren't there yet."""
    present = files.read_data()
    wanted = files.merged(request, present)
    path = files.info if request.msg else files.body
    changed_files = [str(files.data)] if wanted != present else []
    if request.user:
        part = "msg" if request.msg else "body"
        before, after = (((one.get("users") or {}).get(request.user) or {}).get(part) for one in (present, wanted))
        # The same rule that has just joined them tells which are new.
        new = tuple(dict.fromkeys(request.said)) if before != after else ()
        new = tuple(text for text in new if f"\n{text}\n" not in f"\n{before or ''}\n")
    else:
        new = files.new_lines(path, request.said)
        changed_files += [str(path)] if new else []
    names = user_data.differing(present, wanted)
    participants = user_data.differing(present.get("users") or {}, wanted.get("users") or {})
    values = [name for name in names if name != "users" or not participants]
    parts = [
        counted(len(values), "value"),
        counted(len(participants), "participant"),
        counted(len(new), "message" if request.msg else "body"),
    ]
    said = ", ".join(part for part in parts if part)
    result = {
        "changed": bool(changed_files),
        "msg": f"user info: {said}" if said else "user info: nothing new",
        "files": changed_files,
        "data_changed": values,
        "users_changed": participants,
    }
    return result, present, new


def written_by_us(files: Files, request: Request, present: dict[str, Any], new: tuple[str, ...]) -> None:
    wanted = files.merged(request, present)
    if wanted != present:
        files.write_data(wanted)
    if new and not request.user:
        files.append(files.info if request.msg else files.body, new)


def counted(number: int, noun: str) -> str:
    if not number:
        return ""
    plural = "bodies" if noun == "body" else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def checked(arguments: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """The options in plain types; those not given, or empty, aren't among them. No message holds a value."""
    options: dict[str, Any] = {}
    for name in arguments:
        if name not in TYPES:
            if strict:
                near = difflib.get_close_matches(str(name), TYPES, 1)
                hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(sorted(TYPES))}"
                raise UserDataError(f"there is no option {name}: {hint}")
            continue
        value = user_data.plain(arguments[name], str(name))
        if value is None or value in ("", [], {}):
            continue
        options[name] = typed(name, value)
    for one, other in EXCLUSIVE:
        if one in options and other in options:
            raise UserDataError(f"{one} and {other} exclude each other")
    return options


def typed(name: str, value: Any) -> Any:
    kind = TYPES[name]
    if kind == "dict":
        if not isinstance(value, dict):
            raise UserDataError(f"{name} has to be a dictionary")
        for key, entry in value.items():
            if name == "users" and (not key or not isinstance(entry, dict)):
                raise UserDataError(f"users.{key} has to be a name with a dictionary")
        if name == "facts":  # a participant may be called what no variable can be
            return {key: entry for key, entry in value.items() if isidentifier(key)}
        return value
    if kind == "str":
        if isinstance(value, (dict, list)):
            raise UserDataError(f"{name} has to be a text")
        return str(value)
    texts = value if isinstance(value, list) else [value]
    if any(isinstance(text, (dict, list)) or text is None for text in texts):
        raise UserDataError(f"{name} has to be a text or a list of texts")
    return tuple(str(text) for text in texts if text != "")


@contextmanager
def owner_only() -> Iterator[None]:
    """Files made meanwhile are their owner's alone. A worker runs one task, so that nobody else's are meant."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def without_values(text: str, value: Any) -> str:
    """A text of agnosticd.core's without any of the values that it was given."""
    if isinstance(value, dict):
        for name, one in value.items():
            if name not in ("user", "data_prefix"):
                text = without_values(text, one)
    elif isinstance(value, list):
        for one in value:
            text = without_values(text, one)
    elif isinstance(value, str) and len(value) > 3:
        text = text.replace(value, "********")
    return text
