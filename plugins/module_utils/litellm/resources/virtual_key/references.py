# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keys refer to: models and teams that have to exist, and fields that need a licence."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.model_names import ModelNames
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.wanted import Wanted

#: Fields that need an Enterprise licence.
LICENSED = ("tags", "guardrails", "model_max_budget")


def check_references(client: LiteLLMClient, wanted: Sequence[Wanted], models_checked: bool) -> None:
    """Give every item that refers to something the proxy doesn't have an ``error``: before anything is written.

    Raises:
        LiteLLMError: it could not be asked.
    """
    live = [item for item in wanted if item.state != "absent"]
    named = [item for item in live if item.models]
    if named and models_checked:
        known = ModelNames(client)
        for item in named:
            item.error = known.problem(item.models)
    for team in sorted({str(item.columns["team_id"]) for item in live if item.columns.get("team_id")}):
        try:
            client.get("/team/info", {"team_id": team})
        except LiteLLMError as failure:
            if failure.status != 404:
                raise
            for item in live:
                if item.columns.get("team_id") == team:
                    item.error = f"team_id: the proxy has no team {team!r}; create it first"
    licensed = [item for item in live if any(name in item.fields and item.fields[name] for name in LICENSED)]
    if licensed and client.get("/health/license").get("license_type") != "enterprise":
        for item in licensed:
            names = ", ".join(name for name in LICENSED if item.fields.get(name))
            item.error = f"{names}: LiteLLM takes this with an Enterprise licence only, and this proxy has none"
