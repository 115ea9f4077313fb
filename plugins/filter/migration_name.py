# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.images import migration_name

DOCUMENTATION = r"""
name: migration_name
short_description: Name of the Job that brings LiteLLM's database to an image
version_added: 1.0.0
description:
  - The name follows from the image and the database, so that the Job runs once for both, whoever makes it.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: The image, with its tag.
    type: str
    required: true
  database:
    description: The database's name.
    type: str
    required: true
  baseline:
    description: Whether the Job only writes down that the tables are there.
    type: bool
    default: false
  host:
    description: The server of a database outside of the cluster. Empty for one inside.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Which Job migrates
  ansible.builtin.debug:
    msg: "{{ 'quay.io/x/litellm:main-v1.85.0-stable' | rhpds.litemaas.migration_name('litellm_db') }}"
# => "litellm-migration-89be3ea6fa"
"""

RETURN = r"""
_value:
  description: The name.
  type: str
"""


class FilterModule:
    """Names migrations."""

    def filters(self) -> dict[str, Any]:
        return {"migration_name": migration_name}
