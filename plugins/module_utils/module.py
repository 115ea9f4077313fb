# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the doors have in common: an AnsibleModule that hides nested secrets, and one way out for errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.rhpds.litemaas.plugins.module_utils import urls
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError, redact
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import secret_texts


class LiteMaaSModule(AnsibleModule):
    """An AnsibleModule whose free-form ``litellm_params`` may hold secrets.

    ``no_log`` on such an option would hide every value in it, numbers and all, from the whole result. Instead, the
    values that LiteLLM itself takes for secrets are hidden, in the system log as well as in the result.
    """

    #: Whether the options were found to be valid.
    _valid = False
    _hidden = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._valid = True
        if not self._hidden:  # a task with no_log isn't logged
            self.hide_secrets()
        for option in http.KEY_OPTIONS:
            key = self.params.get(option)
            if key and key != key.strip():  # a file's last line break, for example
                self.params[option] = key.strip()
                self.no_log_values.add(key.strip())

    def _log_invocation(self) -> None:
        self._hidden = True
        self.hide_secrets()
        super()._log_invocation()

    def hide_secrets(self) -> None:
        """Tell Ansible which of the options' values are secret, before it logs or copies any."""
        self.no_log_values -= set(_placeholders(self.params))
        self.no_log_values.update(text for text in _nested_secrets(self.params) if not _is_placeholder(text))
        self.no_log_values.update(_users_of_urls(self.params))

    def fail_json(self, msg: str, **kwargs: Any) -> None:
        """End with an error, without the options where they are not valid: nothing tells what of them is secret."""
        if not self._valid:
            kwargs["invocation"] = {"module_args": "not shown, as they are not valid and may hold secrets"}
            msg = redact(msg, (text for text in secret_texts("", self.params) if not _is_placeholder(text)))
        super().fail_json(msg, **kwargs)

    def client(self) -> http.LiteLLMClient:
        """A client for the proxy of the options, or the end of the module."""
        if not http.HAS_REQUESTS:
            self.fail_json(msg=missing_required_lib("requests"), exception=str(http.REQUESTS_IMPORT_ERROR))
        try:
            return http.client_from_params(self.params)
        except LiteLLMError as failure:
            self.fail_json(msg=str(failure))
        raise AssertionError("unreachable")

    def run(self, work: Callable[[], dict[str, Any]]) -> None:
        """Do the work and leave with its result; ``failed`` in it decides how."""
        try:
            result = work()
        except LiteLLMError as failure:
            self.fail_json(msg=str(failure))
        if result.pop("failed", False):
            self.fail_json(**result)
        self.exit_json(**result)


def _is_placeholder(value: str) -> bool:
    """Whether a text stands for no key at all, such as "test" or "none".

    Ansible takes a secret out of the whole result, letter by letter: names, actions and counts that callers compute
    with would go with such a text. Nobody's secret is that short.
    """
    return len(value) < 8 and not value.startswith("sk-")


def _placeholders(params: dict[str, Any]) -> Iterator[str]:
    others = {params.get(name) for name in ("litellm_master_key", "key_secret", "verify_as")}
    for place in (params, *(item for item in params.get("models") or () if isinstance(item, dict))):
        value = place.get("api_key")
        if isinstance(value, str) and _is_placeholder(value) and value not in others:
            yield value


def _nested_secrets(params: dict[str, Any]) -> Iterator[str]:
    places = [params, *(item for item in params.get("models") or () if isinstance(item, dict))]
    for place in places:
        for name, value in (place.get("litellm_params") or {}).items():
            yield from secret_texts(name, value)
        yield from secret_texts("vertex_credentials", place.get("vertex_credentials"))


def _users_of_urls(value: Any) -> Iterator[str]:
    """What URLs hold of users and passwords, wherever in the options they are."""
    if isinstance(value, str):
        for user in urls.users_in(value):
            # With what makes it unlike any other text.
            yield f"//{user}@"
            password = user.partition(":")[2]
            if not _is_placeholder(password):
                yield password
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _users_of_urls(inner)
