# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make this checkout importable and loadable as ``ansible_collections.rhpds.litemaas``.

Ansible and Python find a collection only under ``ansible_collections/<namespace>/<name>``, and a checkout lies
anywhere. So ``.cache/tree`` holds a folder of that shape with a link back to the checkout, and beside it links to the
collections that this one uses. Units, mypy, ansible-lint, antsibull and pytest started by hand all use it; what is
edited is what runs. (``make integration`` and ``make molecule`` use the built and installed collection instead, so that
a file left out of the build is noticed.)

    python3 tests/tools/collection_tree.py      makes it and prints its path
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dependencies

CHECKOUT = Path(__file__).resolve().parents[2]
TREE = CHECKOUT / ".cache" / "tree"


def ensure() -> Path:
    """The tree's folder: goes on PYTHONPATH, MYPYPATH and ANSIBLE_COLLECTIONS_PATH alike."""
    link = TREE / "ansible_collections" / "rhpds" / "litemaas"
    target = os.path.relpath(CHECKOUT, link.parent)  # relative, so that a checkout can be moved
    if not (link.is_symlink() and str(link.readlink()) == target):
        link.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=link.parent) as folder:
            fresh = Path(folder) / "link"
            fresh.symlink_to(target)
            fresh.replace(link)  # in one step: another run may be reading it
    dependencies.link(TREE)
    return TREE


if __name__ == "__main__":
    print(ensure())
