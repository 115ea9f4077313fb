# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The full run counts what pytest counted and nothing that only looks like it."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

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


def test_what_runs_side_by_side_is_read_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_all.Run()
    told, turn = [], threading.Barrier(2)

    def lane(name: str, *later: str) -> None:
        run.say(f"{name}1\n", name)
        turn.wait(60)
        for line in later:
            run.say(f"{line}\n", name)
        turn.wait(60)
        if name == "a":
            told.append(capsys.readouterr().out.split())

    run.beside({"a": partial(lane, "a", "a2", "a3"), "b": partial(lane, "b", "b2")})
    assert told == [["a1", "a2", "a3"]]
    assert capsys.readouterr().out.split() == ["b1", "b2"]
    run.say("end\n", "")
    assert capsys.readouterr().out.split() == ["end"]


def test_a_failure_ends_what_runs_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\ncase "$2" in units) exit 2;; esac; exec sleep 600\n')
    make.chmod(0o755)
    monkeypatch.setenv("MAKE", str(make))
    run = run_all.Run()
    with pytest.raises(run_all.Failed):
        run.beside({"static": run.static, "units": run.units})
    assert {(name, outcome) for name, _taken, outcome in run.times} == {("lint", "failed"), ("units", "failed")}


@pytest.mark.parametrize(
    ("failures", "again", "counts", "closing"),
    [
        (1, "1 passed, 9 deselected", (10, 0), "10 passed, 0 failed"),
        (1, "1 failed, 9 deselected", (9, 2), "9 passed, 2 failed"),
        (6, "6 passed, 4 deselected", (4, 6), "4 passed, 6 failed"),
    ],
)
def test_few_failures_are_run_again_and_named(
    failures: int,
    again: str,
    counts: tuple[int, int],
    closing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = "\n".join(f"FAILED tests/integration/test_a.py::test_{number}[a b] - boom" for number in range(failures))
    make = tmp_path / "make"
    make.write_text(f"""#!/bin/sh
if [ -n "$ARGS" ]; then echo '=== {again} in 1.00s ==='; case '{again}' in *failed*) exit 2;; esac; exit 0; fi
echo '{named}'; echo '=== {failures} failed, {10 - failures} passed in 9.00s ==='; exit 2
""")
    make.chmod(0o755)
    monkeypatch.setenv("MAKE", str(make))
    monkeypatch.setenv("ARGS", "inherited, and not meant for this")
    run, lane = run_all.Run(), run_all.lanes(2)[0]
    if closing.endswith(" 0 failed"):
        run.twice("integration", lane)
    else:
        with pytest.raises(run_all.Failed):
            run.twice("integration", lane)
    assert (run.passed, run.failed) == counts
    run.report(1.0)
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == closing
    name = f"passed when run again by itself: tests/integration/test_a.py::test_0[a b] (LiteLLM {lane.version})"
    assert (name in told) == (not run.failed)


@pytest.mark.parametrize("works", [2, 3])
def test_molecule_has_a_second_try(
    works: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make = tmp_path / "make"
    make.write_text(f"#!/bin/sh\necho x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -ge {works} ]\n")
    make.chmod(0o755)
    monkeypatch.setenv("MAKE", str(make))
    run, lane = run_all.Run(), run_all.lanes(2)[1]
    if works == 2:
        run.twice("molecule", lane)
    else:
        with pytest.raises(run_all.Failed):
            run.twice("molecule", lane)
    run.report(1.0)
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"0 passed, {0 if works == 2 else 2} failed"
    assert (f"failed, and passed when run again by itself: molecule (LiteLLM {lane.version})" in told) == (works == 2)


@pytest.mark.parametrize("cores", [2, 4])
def test_scenarios_of_a_cluster_run_with_one_version(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$2 $LITELLM_VERSION $ARGS" >> {tmp_path}/steps\n')
    make.chmod(0o755)
    monkeypatch.setenv("MAKE", str(make))
    run = run_all.Run()
    for lane in run_all.lanes(cores):
        run.follow(lane)
    molecule = [line.split(None, 2) for line in (tmp_path / "steps").read_text().splitlines() if "molecule" in line]
    first, second = run_all.VERSIONS
    assert molecule == [["molecule", first], ["molecule", second, run_all.ANY_LITELLM]]
    scenarios = run_all.ANY_LITELLM.replace("--scenario-name", "").split()
    assert all((run_all.CHECKOUT / "extensions" / "molecule" / name / "molecule.yml").is_file() for name in scenarios)


@pytest.mark.parametrize("cores", [1, 4, 64])
def test_each_file_runs_beside_both_versions_or_one(cores: int) -> None:
    alone = [one for files in run_all.BESIDE_ONE.values() for one in files]
    tests = run_all.CHECKOUT / "tests"
    there = [
        str(path.relative_to(tests)) for part in ("integration", "stack") for path in (tests / part).glob("test_*.py")
    ]
    assert set(alone) <= set(there)
    lanes = run_all.lanes(cores)
    for one in there:
        beside = []
        for lane in lanes:
            words = lane.tests.split()
            whole = "tests/integration" in words and f"--ignore=tests/{one}" not in words
            beside += [lane.version] * (whole + (f"tests/{one}" in words))
        assert sorted(beside) == sorted(run_all.VERSIONS) if one not in alone else len(beside) == 1, (one, beside)
    assert len({lane.name for lane in lanes}) == len(lanes)
