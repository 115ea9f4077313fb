# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether names in ``models`` of a key or a team mean anything on a proxy. LiteLLM itself takes any."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient

#: Names that stand for something else than a model.
SPECIAL = frozenset({"all-team-models", "all-proxy-models", "no-default-models"})


class ModelNames:
    """The names that a proxy knows, read once. Raises LiteLLMError."""

    def __init__(self, client: LiteLLMClient) -> None:
        answer = client.get("/v1/models", {"include_model_access_groups": "true"})
        self._there = {str(entry.get("id")) for entry in answer.get("data", ())}

    def problem(self, names: Iterable[str]) -> str:
        """Which of the names the proxy doesn't have, and the way on; "" where it has all of them."""
        known = self._there | SPECIAL
        wildcards = [one for one in known if "*" in one]
        unknown = sorted(
            name
            for name in set(names) - known
            if "*" not in name and not any(fnmatchcase(name, one) for one in wildcards)
        )
        if not unknown:
            return ""
        return (
            f"models not on the proxy: {', '.join(unknown)}; register them first, or correct the names (it has"
            f" {len(self._there - SPECIAL)} models)"
        )
