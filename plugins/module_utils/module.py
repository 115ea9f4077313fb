# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the doors have in common: an AnsibleModule that hides nested secrets, and one way out for errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, urls
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import BadOption, LiteLLMError, redact
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import secret_texts

#: Parameters of LiteLLM that take a key as well as the path of one.
CREDENTIALS = ("vertex_credentials", "vertex_ai_credentials")


class LiteMaaSModule(AnsibleModule):
    """An AnsibleModule whose free-form ``litellm_params`` may hold secrets.

    ``no_log`` on such an option would hide every value in it, numbers and all, from the whole result. Instead, the
    values that LiteLLM itself takes for secrets are hidden, in the system log as well as in the result.
    """

    #: Whether the options were found to be valid.
    _valid = False
    _hidden = False
    _url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._valid = True
        self._warn_of_the_environment()
        if not self._hidden:  # a task with no_log isn't logged
            self.hide_secrets()
        for option in http.KEY_OPTIONS:
            key = self.params.get(option)
            if key and key != key.strip():  # a file's last line break, for example
                self.params[option] = key.strip()
                self.no_log_values.add(key.strip())
        for option, value in self.params.items():
            if option.endswith("_percent") and isinstance(value, int) and not 0 <= value <= 100:
                self.fail_json(msg=f"{option} is {value}: a share of all is 0 to 100 percent. Nothing was done")

    def _warn_of_the_environment(self) -> None:
        """What the environment says wins over the namespace, and may be another deployment's: say so."""
        place = self.params.get("namespace")
        for option in ("litellm_url", "litellm_master_key", "litemaas_dsn", "litellm_dsn") if place else ():
            given, variable = self.params.get(option), option.upper()
            if given and given == os.environ.get(variable):
                self.warn(
                    f"{option} is that of {variable} in the environment, not that of namespace {place}:"
                    f" unset {variable} where that isn't meant"
                )

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

    @cached_property
    def place(self) -> discover.Namespace | None:
        """LiteMaaS's namespace in a cluster, where the options name one."""
        name = self.params.get("namespace")
        return discover.Namespace(self.cluster(), name) if name else None

    def cluster(self) -> Cluster:
        """The cluster of the options."""
        return Cluster.from_params(self.params["cluster"])

    def setting(self, option: str) -> str | None:
        """What is given wins; what is not is looked up in the cluster, where the options name a namespace.

        Raises:
            BadOption: it is needed, and there is nowhere to look.
            ClusterError: it could not be found.
        """
        given: str | None = self.params.get(option)
        if given:
            return given
        if self.place is None:
            if option in discover.NEEDED:
                raise BadOption(option, *discover.NOT_SET)
            return given
        found = self.place.find(option)
        if found and option != "litellm_url" and not _is_placeholder(found):
            self.no_log_values.add(found)
        return found

    def client(self, with_key: bool = True) -> http.LiteLLMClient:
        """A client for the proxy of the options, or of the namespace, or the end of the module.

        Args:
            with_key: whether the master key is needed.
        """
        if not http.HAS_REQUESTS:
            self.fail_json(msg=missing_required_lib("requests"), exception=str(http.REQUESTS_IMPORT_ERROR))
        try:
            url = self.setting("litellm_url")
            key = self.setting("litellm_master_key") if with_key else self.params["litellm_master_key"]
            client = http.client_from_params({**self.params, "litellm_url": url, "litellm_master_key": key})
        except (LiteLLMError, ClusterError) as failure:
            self.fail_json(msg=str(failure))
        self._url = client.url
        return client

    def key_secret(self) -> str | None:
        """The secret that keys are derived from, if there is one, or the end of the module."""
        try:
            secret = self.setting("key_secret")
            refused = derive.check_key_secret(secret, self.setting("litellm_master_key") or "") if secret else None
        except (LiteLLMError, ClusterError) as failure:
            self.fail_json(msg=str(failure))
        if refused:
            self.fail_json(msg=refused)
        return secret

    def run(self, work: Callable[[], dict[str, Any]]) -> None:
        """Do the work and leave with its result; ``failed`` in it decides how."""
        try:
            result = work()
        except (LiteLLMError, ClusterError) as failure:
            self.fail_json(msg=str(failure), changed=bool(getattr(failure, "changes", ())), **self._whereabouts())
        result.update(self._whereabouts())
        if result.pop("failed", False):
            self.fail_json(**result)
        self.exit_json(**result)

    def _whereabouts(self) -> dict[str, Any]:
        """Which proxy it was, and where it was found."""
        sources = self.place.sources if self.place else {}
        return ({"litellm_url": self._url} if self._url else {}) | ({"found": sources} if sources else {})


def _is_placeholder(value: str) -> bool:
    """Whether a text stands for no key at all, such as "test" or "none".

    Ansible takes a secret out of the whole result, letter by letter: names, actions and counts that callers compute
    with would go with such a text. Nobody's secret is that short.
    """
    return len(value) < 8 and not value.startswith("sk-")


def _is_path(value: Any) -> bool:
    """Whether credentials are where a key is in the proxy's pods, and no key: messages have to name it."""
    return isinstance(value, str) and value.startswith("/") and not set(value) & set("{}\n")


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
            if name not in CREDENTIALS or not _is_path(value):
                yield from secret_texts(name, value)
        credentials = place.get("vertex_credentials")
        if not _is_path(credentials):
            yield from secret_texts("vertex_credentials", credentials)


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
