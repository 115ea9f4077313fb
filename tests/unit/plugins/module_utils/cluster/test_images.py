# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of two images is the newer."""

from __future__ import annotations

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import images


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("r/litellm:main-v1.81.14-stable", "r/litellm:main-v1.106.0-stable", -1),
        ("r/litellm:v1.81.0-stable-custom", "other/litellm:main-v1.81.0", 0),
        ("r/backend:0.5.0", "r/backend:0.5.0-rc.1", 1),
        ("r/backend:latest", "r/backend:latest", 0),
        ("r/backend:latest", "r/backend:0.5.0", None),
        ("r/litellm@sha256:11", "r/litellm@sha256:22", None),
    ],
)
def test_order(left: str, right: str, order: int | None) -> None:
    assert images.order(left, right) == order
    assert images.order(right, left) == (order if order is None else -order)
