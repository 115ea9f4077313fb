# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading keys from a proxy, in as few requests as will do, and not acting on half of an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.listing import Page, read_list
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.rows import (
    ROTATED,
    ROTATING,
    Observed,
    base_alias,
    guid_of,
    is_legacy,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.wanted import (
    Lab,
    Wanted,
    labs_of,
)

PAGE = 100


def list_keys(
    client: LiteLLMClient,
    filters: Mapping[str, Any] | None = None,
    workers: int = 8,
    keep: Callable[[Observed], bool] | None = None,
    first_page: Mapping[str, Any] | None = None,
) -> list[Observed]:
    """Every key's full row, all pages, checked to be complete (see ``listing``).

    Args:
        filters: of ``/key/list``: key_alias, user_id, team_id.
        keep: which rows to hold on to.
        first_page: of the same listing, where the caller has just read it.

    Raises:
        LiteLLMError: a page could not be read, or rows were still missing after several passes.
    """

    def page(number: int, known: Mapping[str, Any] | None = None) -> Page:
        answer = known or read_page(client, number, filters)
        return answer["keys"], answer["total_count"], answer["total_pages"]

    return read_list(
        client,
        "/key/list",
        "keys",
        "token",
        page,
        workers=workers,
        keep=keep,
        first=page(1, first_page) if first_page else None,
        may_be_empty=bool(filters),
    )


def read_page(client: LiteLLMClient, number: int, filters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    params = {"page": number, "size": PAGE, "return_full_object": "true", "sort_by": "token", "sort_order": "asc"}
    answer = client.get("/key/list", {**params, **(filters or {})})
    if not isinstance(answer, dict) or not isinstance(answer.get("keys"), list) or "total_count" not in answer:
        raise LiteLLMError(
            f"GET {client.url}/key/list", words="the answer is no list of keys", advice="Not acting on it"
        )
    for row in answer["keys"]:
        if not isinstance(row, dict) or not row.get("token"):
            raise LiteLLMError(f"GET {client.url}/key/list", words="a row without a token", advice="Not acting on it")
    return answer


class KeyReader:
    """Chosen keys of one proxy. Everything here raises LiteLLMError."""

    def __init__(self, client: LiteLLMClient, workers: int) -> None:
        self.client = client
        self.workers = workers

    def live(self, wanted: Sequence[Wanted], reported: AbstractSet[Lab]) -> list[Observed]:
        """The rows that the items speak of: by alias where that takes fewer requests than all pages.

        Args:
            reported: labs whose keys are wanted in any case.
        """
        if not wanted and not reported:
            return []
        if all(item.token for item in wanted) and not reported:
            return self.by_token([str(item.token) for item in wanted])
        first = read_page(self.client, 1)
        if 0 < first["total_count"] == len(first["keys"]):
            return list(first["keys"])
        aliases = {str(item.alias) for item in wanted if item.alias}
        tokens = {item.token for item in wanted if item.token}
        labs = labs_of(item for item in wanted if not item.alias and not item.token) | reported
        if not tokens and not labs and 2 * len(aliases) < first["total_pages"]:
            return self._named(sorted(aliases))
        guids = {guid for guid, _patterns_of_lab in labs}

        def keep(row: Observed) -> bool:
            if base_alias(row) in aliases or row["token"] in tokens or guid_of(row) in guids:
                return True
            return any(is_legacy(row, guid, patterns) for guid, patterns in labs)

        return list_keys(self.client, workers=self.workers, keep=keep, first_page=first)

    def _named(self, aliases: Sequence[str]) -> list[Observed]:
        """Keys with these aliases, and what rotations have left of them, without reading all pages."""
        rows = self.by_alias([*aliases, *(alias + ROTATING for alias in aliases)])
        old = [
            f"{base_alias(row)}{ROTATED}{n}" for row in rows for n in ownership.record(row["metadata"]).get("aside", ())
        ]
        return rows + self.by_alias(old)

    def by_alias(self, aliases: Sequence[str]) -> list[Observed]:
        def rows_of(alias: str) -> list[Observed]:
            filtered = {"key_alias": alias}
            answer = read_page(self.client, 1, filtered)
            rows = answer["keys"]
            if answer["total_count"] != len(rows):
                rows = list_keys(self.client, filtered, workers=1, first_page=answer)
            # Compared afterwards: the filter is a substring match in some versions.
            return [row for row in rows if row.get("key_alias") == alias]

        return [row for rows in self.client.map(rows_of, aliases, self.workers) for row in rows]

    def by_token(self, tokens: Sequence[str], aliases: Mapping[str, str] | None = None) -> list[Observed]:
        """The rows with these tokens that there are.

        Args:
            aliases: token -> the alias it should have. Newer versions answer rows without their tokens, which then
                are told by this; without it, or where it doesn't fit, it takes a request a token.
        """
        unique = list(dict.fromkeys(tokens))
        chunks = [unique[start : start + PAGE] for start in range(0, len(unique), PAGE)]

        def rows_of(chunk: list[str]) -> list[Observed]:
            answer = self.client.post("/v2/key/info", {"keys": chunk})
            info = answer.get("info") if isinstance(answer, dict) else None
            if not isinstance(info, list):
                raise LiteLLMError(f"POST {self.client.url}/v2/key/info", words="the answer is no list of keys")
            rows = [row for row in info if isinstance(row, dict)]
            if all(row.get("token") for row in rows):
                return [row for row in rows if row["token"] in chunk]
            return self._with_tokens(chunk, rows, aliases or {})

        return [row for rows in self.client.map(rows_of, chunks, self.workers) for row in rows]

    def _with_tokens(self, chunk: list[str], rows: list[Observed], aliases: Mapping[str, str]) -> list[Observed]:
        if len(chunk) == 1:
            return [{**row, "token": chunk[0]} for row in rows[:1]]
        found = {str(row.get("key_alias")): row for row in rows}
        token_of = {aliases[token]: token for token in chunk if token in aliases}
        if len(found) == len(rows) and len(token_of) == len(chunk) and found.keys() <= token_of.keys():
            return [{**row, "token": token_of[alias]} for alias, row in found.items()]
        return [row for token in chunk for row in read_page(self.client, 1, {"key_hash": token})["keys"]]

    def deleted_tokens(self, query: Mapping[str, Any]) -> tuple[list[str], int, int]:
        """Tokens in the archive of deleted keys, their number in all, and the number of pages."""
        params = {"page": 1, "size": PAGE, "status": "deleted", "sort_by": "token", "sort_order": "asc", **query}
        answer = self.client.get("/key/list", params)
        if not isinstance(answer, dict) or not isinstance(answer.get("keys"), list) or "total_count" not in answer:
            raise LiteLLMError(f"GET {self.client.url}/key/list?status=deleted", words="the answer is no list of keys")
        return [str(token) for token in answer["keys"]], answer["total_count"], answer["total_pages"]
