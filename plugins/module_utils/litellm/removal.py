# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deleting chosen keys and deployments, known by their ids, and a look at what is left of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import read_deployments
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key import PAGE, KeyReader


def delete_tokens(
    client: LiteLLMClient, tokens: Sequence[str], still_there: Callable[[Sequence[str]], Iterable[str]]
) -> tuple[set[str], LiteLLMError | None]:
    """Delete keys in one request, and look what is left of them.

    An answer of success is no proof; and an error may come after the deed, or from one key that was gone already.

    Returns:
        the tokens that are still there, and what LiteLLM said against it.

    Raises:
        LiteLLMError, DatabaseError: ``still_there`` doesn't tell what is left.
    """
    said = None
    try:
        client.post("/key/delete", {"keys": list(tokens)})
    except LiteLLMError as failure:
        said = failure
    return set(still_there(tokens)), said


class Remover:
    """Deletes in one proxy.

    An answer of success is no proof, and an error may come after the deed: what is left is read back.
    """

    def __init__(self, client: LiteLLMClient, workers: int = 4) -> None:
        self._client = client
        self._workers = workers

    def delete_keys(self, keys: Mapping[str, str | None]) -> dict[str, str]:
        """Delete keys, given as token -> alias; the tokens that LiteLLM still has, with the reason.

        Raises:
            LiteLLMError: it is not known what is left.
        """
        tokens = list(keys)
        left: dict[str, str] = {}
        for start in range(0, len(tokens), PAGE):
            chunk = tokens[start : start + PAGE]
            alive, said = delete_tokens(self._client, chunk, lambda these: self._living(these, keys))
            left |= dict.fromkeys(alive, str(said or "LiteLLM took the deletion and still has the key"))
        return left

    def _living(self, tokens: Sequence[str], keys: Mapping[str, str | None]) -> list[str]:
        aliases = {token: alias for token in tokens if (alias := keys[token])}
        return [str(row["token"]) for row in KeyReader(self._client, self._workers).by_token(tokens, aliases)]

    def delete_deployments(self, ids: Sequence[str]) -> dict[str, str]:
        """Delete deployments; the ids that LiteLLM lists afterwards, with the reason.

        Raises:
            LiteLLMError: it is not known what is left.
        """
        refused: dict[str, str] = {}
        for one in ids:
            try:
                self._client.post("/model/delete", {"id": one})
            except LiteLLMError as failure:
                refused[one] = str(failure)
        left = set(ids) & self.deployments() if ids else set()
        return {one: refused.get(one, "LiteLLM took the deletion and still lists the deployment") for one in left}

    def deployments(self) -> set[str]:
        """Ids of all deployments. Raises LiteLLMError."""
        return {str(entry["model_info"]["id"]) for entry in read_deployments(self._client)}
