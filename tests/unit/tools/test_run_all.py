# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The full run counts what pytest counted and nothing that only looks like it."""

from __future__ import annotations

import pytest

from ansible_collections.rhpds.litemaas.tests.tools import run_all


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("============ 12 passed in 0.50s ============", (12, 0, 0)),
        ("= 1 failed, 12 passed, 3 skipped, 2 warnings in 100.50s (0:01:40) =", (12, 1, 3)),
        ("==== 2 errors in 0.50s ====", (0, 2, 0)),
        ("ok: [localhost] => 12 passed in 0.50s", (0, 0, 0)),
        ("==== short test summary info ====", (0, 0, 0)),
    ],
)
def test_counts(line: str, counts: tuple[int, int, int]) -> None:
    run = run_all.Run()
    run.count(line)
    assert (run.passed, run.failed, run.skipped) == counts


def test_a_failed_step_is_a_failure_without_pytest(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_all.Run()
    run.times.append(("lint", 1.0, "failed"))
    run.report(1.0)
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


def test_versions_side_by_side_are_read_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_all.Run()
    first, second = run_all.VERSIONS
    for line, version in (("a1\n", first), ("b1\n", second), ("a2\n", first), ("b2\n", second)):
        run.say(line, version)
    run.done(second)
    run.say("a3\n", first)
    assert capsys.readouterr().out.split() == ["a1", "a2", "a3"]
    run.done(first)
    assert capsys.readouterr().out.split() == ["b1", "b2"]
    run.say("end\n", "")
    assert capsys.readouterr().out.split() == ["end"]
