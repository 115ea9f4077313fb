# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.connections import connection_sum

DOCUMENTATION = r"""
name: connection_sum
short_description: How many database connections a deployment can open at once
version_added: 1.0.0
description:
  - Adds up what LiteLLM's replicas, LiteMaaS's backends and the rest may hold while each is rolled out, and compares it
    with what PostgreSQL gives.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description:
      - C(litellm_replicas), C(litellm_workers) each, C(litellm_limit) connections for each worker, C(backend_replicas),
        C(backend_limit) connections for each, C(reserved) for backups and people, and C(maximum) of the server.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Do six replicas fit
  ansible.builtin.debug:
    msg: "{{ (sizes | rhpds.litemaas.connection_sum).text }}"
  vars:
    sizes:
      litellm_replicas: 6
      litellm_workers: 2
      litellm_limit: 10
      backend_replicas: 3
      backend_limit: 20
      reserved: 20
      maximum: 200
# => "LiteLLM (6 + 1 while it is rolled out) x 2 workers x 10 connections = 140, backend (3 + 1) x 20 = 80, reserved 20:
#     together 240, and max_connections is 200"
"""

RETURN = r"""
_value:
  description: The sum.
  type: dict
  contains:
    sum:
      description: Connections.
      type: int
    fits:
      description: Whether they are not more than the server gives.
      type: bool
    text:
      description: The sum in words.
      type: str
"""


class FilterModule:
    """Adds up database connections."""

    def filters(self) -> dict[str, Any]:
        return {"connection_sum": connection_sum}
