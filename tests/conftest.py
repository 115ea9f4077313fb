# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test needs: the checkout importable as ``ansible_collections.rhpds.litemaas``."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tools"))

import collection_tree

# pytest put the tree on sys.path (pyproject.toml) before it was there to be looked at.
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(collection_tree.ensure()))
importlib.invalidate_caches()
