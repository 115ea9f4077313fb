# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab as AgnosticD sees it: its guid, playbooks run for it, and what came of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from ansible_collections.rhpds.litemaas.tests.integration import harness

ROLE = "ocp4_workload_litellm_virtual_keys"


class Lab:
    """One lab's guid, what AgnosticD would know of it, and what it was told."""

    def __init__(self, runner: harness.Runner, litellm: harness.LiteLLM, guid: str, models: list[str]) -> None:
        self.runner, self.litellm, self.guid, self.models = runner, litellm, guid, models
        self.folder = runner.folder / "output"
        self.folder.mkdir()

    def run(self, playbook: str = "provision_key", **variables: Any) -> harness.PlaybookResult:
        """A playbook of the collection by its name, or the text of one."""
        settings = {
            n: variables.pop(n) for n in list(variables) if n in ("check", "diff", "verbosity", "env", "arguments")
        }
        name = playbook if "\n" in playbook else f"rhpds.litemaas.{playbook}"
        return self.runner.playbook(name, self.variables(**variables), **settings)

    def variables(self, role: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
        """What AgnosticD would give; ``role`` holds the role's own variables without their beginning."""
        named = {"models": self.models, "retry_delay": 0.05, **(role or {})}
        own = {f"{ROLE}_{name}": value for name, value in named.items()}
        return {"guid": self.guid, "output_dir": str(self.folder), **own, **given}

    def good(self, playbook: str = "provision_key", **variables: Any) -> harness.PlaybookResult:
        """A run that has to succeed."""
        done = self.run(playbook, **variables)
        assert done.rc == 0, done.output
        return done

    @property
    def data(self) -> Any:
        """The user data, as AgnosticD reads it."""
        return yaml.safe_load((self.folder / "provision-user-data.yaml").read_text())

    @property
    def told(self) -> list[str]:
        """The messages."""
        return list(yaml.safe_load((self.folder / "provision-user-info.yaml").read_text()))

    @property
    def facts(self) -> dict[str, Any]:
        """What later tasks of the play have seen."""
        found = json.loads((self.folder / "facts.json").read_text())
        return {name: value for name, value in found.items() if name not in ("litellm_url", "litellm_master_key")}

    def keys(self) -> dict[str, dict[str, Any]]:
        """The lab's keys in the proxy, by alias; two of one alias are an error."""
        rows = self.litellm.keys(f"virtkey-{self.guid}")
        found = {row["key_alias"]: row for row in rows}
        assert len(found) == len(rows), [row["key_alias"] for row in rows]
        return found

    def expected(self, users: int, duration: str = "30d", models: list[str] | None = None) -> dict[str, Any]:
        """The contract's user data, made of what stands in the proxy and of the values that were handed over."""
        url, rows, data = self.litellm.url, self.keys(), self.data
        names = models or self.models
        common = {
            "litellm_api_endpoint": url,
            "litellm_api_base_url": f"{url}/v1",
            "litellm_available_models": names,
            "litellm_available_models_list": ", ".join(names),
            "litellm_key_duration": duration,
        }

        def own(alias: str, value: str) -> dict[str, Any]:
            # A value that doesn't belong to the row of this alias would not have its token.
            assert hashlib.sha256(value.encode()).hexdigest() == rows[alias]["token"]
            return {"litellm_virtual_key": value, "litellm_key_alias": alias, "litellm_key_id": rows[alias]["token"]}

        if not users:
            return {**common, **own(f"virtkey-{self.guid}", data["litellm_virtual_key"])}
        aliases = [f"virtkey-{self.guid}-user{number}" for number in range(1, users + 1)]
        mails = [f"user{number}@lab.opentlc.com" for number in range(1, users + 1)]
        owned = [own(alias, value) for alias, value in zip(aliases, data["litellm_virtual_keys"], strict=True)]
        each = {}
        for number, (mine, mail) in enumerate(zip(owned, mails, strict=True), start=1):
            each.update(
                {
                    f"litellm_user{number}_virtual_key": mine["litellm_virtual_key"],
                    f"litellm_user{number}_key_alias": mine["litellm_key_alias"],
                    f"litellm_user{number}_key_id": mine["litellm_key_id"],
                    f"litellm_user{number}_user_email": mail,
                }
            )
        return {
            **common,
            **owned[0],
            **each,
            "litellm_virtual_keys": [mine["litellm_virtual_key"] for mine in owned],
            "litellm_key_aliases": aliases,
            "litellm_key_ids": [mine["litellm_key_id"] for mine in owned],
            "litellm_user_ids": mails,
            "litellm_user_count": users,
            "users": {
                f"user{number}": {**common, **mine, "litellm_user_email": mail}
                for number, (mine, mail) in enumerate(zip(owned, mails, strict=True), start=1)
            },
        }

    def calls(self) -> None:
        """Everybody's key answers."""
        data = self.data
        for value in data.get("litellm_virtual_keys", [data["litellm_virtual_key"]]):
            assert self.litellm.chat(self.models[0], value)[0] == 200

    def older_key(self, alias: str, **more: Any) -> str:
        """A key as the older collection made it: random value, no mark; its value."""
        metadata = {"guid": self.guid, "created_by": "babylon", "models": ",".join(self.models)}
        body = {"key_alias": alias, "models": self.models, "duration": "30d", "metadata": metadata, **more}
        return str(self.litellm.post("/key/generate", **body)["key"])


def writes(requests: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the requests that write; one of LiteLLM's reading calls is a POST."""
    return [one for one in requests if one[1] != "/v2/key/info"]
