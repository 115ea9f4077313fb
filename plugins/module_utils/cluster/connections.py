# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many database connections a deployment can open at once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Pods above the wanted number while a Deployment is rolled out (maxSurge).
SURGE = 1


def connection_sum(sizes: Mapping[str, int]) -> dict[str, Any]:
    """See the documentation of the filter of this name."""
    litellm = (sizes["litellm_replicas"] + SURGE) * sizes["litellm_workers"] * sizes["litellm_limit"]
    parts = [
        (
            f"LiteLLM ({sizes['litellm_replicas']} + {SURGE} while it is rolled out)"
            f" x {sizes['litellm_workers']} workers x {sizes['litellm_limit']} connections = {litellm}"
        )
    ]
    backend = 0
    if sizes["backend_replicas"]:
        backend = (sizes["backend_replicas"] + SURGE) * sizes["backend_limit"]
        parts.append(f"backend ({sizes['backend_replicas']} + {SURGE}) x {sizes['backend_limit']} = {backend}")
    parts.append(f"reserved {sizes['reserved']}")
    together = litellm + backend + sizes["reserved"]
    return {
        "sum": together,
        "fits": together <= sizes["maximum"],
        "text": f"{', '.join(parts)}: together {together}, and max_connections is {sizes['maximum']}",
    }
