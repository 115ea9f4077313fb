# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the contract says of AgnosticD's plugin, its bad manners included: it shows data, and it writes in check mode.

For tests it notes each call's options and each rewrite of the user data in ``<output_dir>/core-calls.jsonl``.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):
    """Stands in for agnosticd.core.agnosticd_user_info."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        args = self._task.args
        msg, body, user = args.get("msg"), args.get("body"), args.get("user")
        prefix = args.get("data_prefix") or ""
        data = {f"{prefix}{name}": value for name, value in (args.get("data") or {}).items()}
        lines = msg if isinstance(msg, list) else [msg] if msg else []
        folder = Path(self._templar.template(task_vars.get("output_dir") or task_vars.get("playbook_dir") or "."))
        action = task_vars.get("ACTION") or "provision"
        for line in lines:
            display.display(f"user.info: {line}")
        if body:
            display.display(f"user.body: {body}")
        result.update(_ansible_verbose_always=True, msg=msg, data=data)
        rewrites = 0
        try:
            if user:
                data = {**data, **({"msg": "\n".join(lines)} if lines else {}), **({"body": body} if body else {})}
            else:
                for kind, texts in (("info", lines), ("body", [body] if body else [])):
                    if texts:
                        with open(folder / f"{action}-user-{kind}.yaml", "a", encoding="utf-8") as stream:
                            stream.writelines(f"- {json.dumps(text)}\n" for text in texts)
            if data:
                path = folder / f"{action}-user-data.yaml"
                content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
                where = content.setdefault("users", {}).setdefault(user, {}) if user else content
                for part in ("msg", "body") if user else ():
                    if part in where and part in data:
                        data[part] = f"{where[part]}\n{data[part]}"
                where.update(data)
                # ansible-core 2.19 gives values with tags on them, which YAML doesn't take.
                content = json.loads(json.dumps(content))
                path.write_text(yaml.safe_dump(content, explicit_start=True), encoding="utf-8")
                rewrites = 1
            with open(folder / "core-calls.jsonl", "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"options": sorted(args), "rewrites": rewrites}) + "\n")
        except OSError as problem:
            result.update(failed=True, error=f"{problem}: {data}")
        return result
