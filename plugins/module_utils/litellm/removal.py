# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deleting chosen keys and deployments, known by their ids, and a look at what is left of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import read_deployments
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key import PAGE, KeyReader


class Remover:
    """Deletes in one proxy.

    An answer of success is no proof, and an error may come after the deed: what is left is read back.
    """

    def __init__(self, client: LiteLLMClient, workers: int = 4) -> None:
        self._client = client
        self._workers = workers

    def delete_keys(self, keys: Mapping[str, str | None]) -> set[str]:
        """Delete keys, given as token -> alias; the tokens that LiteLLM still has.

        Raises:
            LiteLLMError: it is not known what is left.
        """
        tokens = list(keys)
        refused: list[LiteLLMError] = []
        for start in range(0, len(tokens), PAGE):
            try:
                self._client.post("/key/delete", {"keys": tokens[start : start + PAGE]})
            except LiteLLMError as failure:
                # One that is gone already makes a whole request fail: what is left tells.
                refused.append(failure)
        aliases = {token: alias for token, alias in keys.items() if alias}
        left = {str(row["token"]) for row in KeyReader(self._client, self._workers).by_token(tokens, aliases)}
        if left and refused:
            raise refused[0]
        return left

    def delete_deployments(self, ids: Sequence[str]) -> set[str]:
        """Delete deployments; the ids that LiteLLM lists afterwards.

        Raises:
            LiteLLMError: it is not known what is left.
        """
        for one in ids:
            with suppress(LiteLLMError):  # what is listed afterwards tells
                self._client.post("/model/delete", {"id": one})
        return set(ids) & self.deployments()

    def deployments(self) -> set[str]:
        """Ids of all deployments. Raises LiteLLMError."""
        return {str(entry["model_info"]["id"]) for entry in read_deployments(self._client)}
