# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials out of Secrets."""

from __future__ import annotations

import base64
import shlex

import pytest

from ansible_collections.rhpds.litemaas.plugins.filter.credentials import CREDENTIALS, credentials


def secret(name, **values):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name}, "data": data}


def test_values_are_quoted_for_a_shell_and_sources_hold_none():
    value = 'a\'b "c" $d\n'
    found = credentials([secret("litellm-secret", LITELLM_MASTER_KEY=value), {"metadata": {"name": "backend-secret"}}])
    assert found["values"] == {"LITELLM_MASTER_KEY": value.rstrip("\n")}
    assert shlex.split(found["text"]) == [f"LITELLM_MASTER_KEY={value.rstrip()}"]
    assert found["sources"] == {"LITELLM_MASTER_KEY": "LITELLM_MASTER_KEY in Secret litellm-secret"}
    assert found["missing"] == ["ADMIN_API_KEY in Secret backend-secret", "JWT_SECRET in Secret backend-secret"]


def test_every_group_is_known_and_no_other():
    assert len(credentials([], list(CREDENTIALS))["missing"]) == 9
    with pytest.raises(ValueError, match="no salt_key; there are master_key"):
        credentials([], ["master_key", "salt_key"])
