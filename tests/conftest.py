# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test needs: the checkout importable as ``ansible_collections.rhpds.litemaas``, and the stack's cluster."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "tools"))

import collection_tree

# pytest put the tree on sys.path (pyproject.toml) before it was there to be looked at.
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(collection_tree.ensure()))
importlib.invalidate_caches()

NOT_RUN = "NOT RUN: needs a cluster, which ALLOW_MISSING=cluster goes without"
NO_BROWSER = "NOT RUN: needs a Chromium, which ALLOW_MISSING=browser goes without"


@pytest.fixture(scope="session")
def stack_variables() -> dict[str, str]:
    """What the env file of the running stack exports; a test that needs it fails without a stack."""
    folder = Path(os.environ.get("STACK_DIR") or collection_tree.CHECKOUT / ".stack")
    try:
        words = shlex.split((folder / "env").read_text(encoding="utf-8"))
    except OSError:
        pytest.fail(f"no stack runs in {folder}: make stack-up")
    return dict(word.split("=", 1) for word in words if "=" in word)


@pytest.fixture(scope="session")
def kubeconfig(stack_variables: dict[str, str]) -> str:
    """The kubeconfig of the stack's cluster. Tests that need it fail without one, unless ALLOW_MISSING=cluster."""
    if "KUBECONFIG" not in stack_variables:
        if "cluster" in os.environ.get("ALLOW_MISSING", ""):
            pytest.skip(NOT_RUN)
        pytest.fail("the stack has no cluster: make stack-up without ALLOW_MISSING")
    return stack_variables["KUBECONFIG"]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Chromium, installed where the machine has none; tests fail without one, unless ALLOW_MISSING names browser."""
    sys.path.insert(0, str(Path(__file__).parent / "stack"))
    import chromium as provided
    from progress import StackError

    try:
        return str(provided.provide(tmp_path_factory.mktemp("browser") / "install.log"))
    except StackError as error:
        if "browser" in os.environ.get("ALLOW_MISSING", ""):
            pytest.skip(NO_BROWSER)
        pytest.fail(f"{error}; {error.hint}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was not run for want of a cluster or a browser, whatever else is shown of skipped tests."""
    for reason in (NOT_RUN, NO_BROWSER):
        lacking = [one for one in terminalreporter.stats.get("skipped", []) if reason in str(one.longrepr)]
        if lacking:
            terminalreporter.write_line(f"{reason}: {len(lacking)} tests", red=True)
            for one in lacking:
                terminalreporter.write_line(f"  {one.nodeid}")
