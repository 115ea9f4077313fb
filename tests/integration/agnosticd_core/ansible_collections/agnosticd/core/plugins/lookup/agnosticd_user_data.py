# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the contract says of AgnosticD's lookup. For tests it notes each call in ``<output_dir>/core-lookups``."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: agnosticd_user_data
short_description: A stand-in for AgnosticD's own, for tests
description: See there.
options:
  _terms: {description: Names., type: list, elements: str, required: true}
  user: {description: Participant., type: str}
author: the rhpds.litemaas contributors (@rhpds)
"""
EXAMPLES = ""
RETURN = ""


class LookupModule(LookupBase):
    """Stands in for agnosticd.core.agnosticd_user_data."""

    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        folder = Path(self._templar.template(variables.get("output_dir") or variables.get("playbook_dir") or "."))
        path = folder / f"{variables.get('ACTION') or 'provision'}-user-data.yaml"
        data = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
        if self.get_option("user"):
            data = data["users"][self.get_option("user")]
        if folder.is_dir():
            with open(folder / "core-lookups", "a", encoding="utf-8") as stream:
                stream.write(f"{path.name}\n")
        return [data if term == "*" else data.get(term) for term in terms]
