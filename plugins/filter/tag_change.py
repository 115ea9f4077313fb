# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.images import tag_change

DOCUMENTATION = r"""
name: tag_change
short_description: Whether another image tag is a newer or an older version
version_added: 1.0.0
description:
  - Compares the first version number (C(1.81.0)) of two image tags, such as V(main-v1.81.0-stable-custom).
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: The image that runs, with its tag. Empty for none.
    type: str
    required: true
  wanted:
    description: The tag that is wanted.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Is it an upgrade
  ansible.builtin.debug:
    msg: "{{ 'quay.io/x/litellm:main-v1.81.0-stable' | rhpds.litemaas.tag_change('main-v1.85.0-stable') }}"
# => "upgrade"
"""

RETURN = r"""
_value:
  description:
    - V(none) for the same tag, or where nothing runs; V(upgrade) for a newer one, or another build of the same version;
      V(downgrade) for an older one; V(unknown) where one of them says no version.
  type: str
"""


class FilterModule:
    """Compares image tags."""

    def filters(self) -> dict[str, Any]:
        return {"tag_change": tag_change}
