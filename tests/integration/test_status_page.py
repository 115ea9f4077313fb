# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The status page in a real Chromium, made from real databases with 5,000 keys and 200 models."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import browser, harness, kube, statuslab

UTC = "(now() AT TIME ZONE 'UTC')"
KEYS, MODELS = '[data-table="keys-data"]', '[data-table="models-data"]'


@pytest.fixture(scope="module")
def report(stack: harness.Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names that would do harm are among all of them."""
    folder = tmp_path_factory.mktemp("report")
    path = folder / "status.html"
    with statuslab.stores(stack) as stores:
        stores.keys(1500, "abc12", f"{UTC} + interval '3 days'")
        stores.keys(1400, "gone9", f"{UTC} - interval '3 days'")
        stores.keys(2098, "long1", f"{UTC} + interval '30 days'", max_budget=5)
        stores.keys(2, statuslab.HOSTILE, f"{UTC} + interval '1 hour'")
        names = [(f"model-{number:03}", "unavailable" if number % 2 else "available") for number in range(199)]
        stores.models(*names, (statuslab.HOSTILE, "available"))
        stores.subscriptions("model-001", active=3)
        for day in range(30):
            stores.spend("abc12", 1, statuslab.HOSTILE if day % 2 else "granite", day, day + 0.5)
        given = {
            "litemaas_dsn": stores.litemaas_dsn,
            "litellm_dsn": stores.litellm_dsn,
            "report": str(path),
            "top": 12,
        }
        found = harness.Runner(stack, folder).module("litemaas_status", given)
    assert found["report"] == [str(path), str(folder / "status.json")], found["msg"]
    assert len(found["status"]["parts"]["keys"]["items"]) == 100
    return path


@pytest.fixture(scope="module")
def tab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.started(chromium, tmp_path_factory.mktemp("browser")) as page:
        yield page


def rows(tab: browser.Page, table: str) -> list[list[str]]:
    script = f"[...document.querySelectorAll('{table} tbody tr')].map(r => [...r.children].map(c => c.textContent))"
    return list(tab.run(script))


def count(tab: browser.Page, table: str) -> str:
    return str(tab.run(f"document.querySelector('{table} .count').textContent"))


def enter(tab: browser.Page, table: str, words: str, expected: str) -> None:
    tab.run(
        f"(i => {{ i.value = {json.dumps(words)}; i.dispatchEvent(new Event('input')); }})"
        f"(document.querySelector('{table} input'))"
    )
    tab.until(f"document.querySelector('{table} .count').textContent === {json.dumps(expected)}")


def test_it_asks_for_nothing_runs_no_other_script_and_has_nothing_to_complain_of(
    tab: browser.Page, report: Path
) -> None:
    tab.look()
    tab.open(report)
    # The proxy may have models of others beside these 200.
    models = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))["parts"]["models"]["count"]
    assert models >= 200
    assert count(tab, KEYS) == "1–25 of 5,000" and count(tab, MODELS) == f"1–25 of {models}"
    assert tab.requests == [report.as_uri()] and tab.complaints == []
    # The harmful name is there, as text, in tables, charts and reasons.
    assert tab.run("document.querySelectorAll('img').length") == 0
    shown = tab.run("document.body.innerText")
    assert shown.count(statuslab.HOSTILE) >= 3
    # Were a script in it all the same, it would not run.
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit=1\">')")
    tab.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit=1'}))")
    kube.eventually(lambda: tab.run("1") and [one for one in tab.events if one["params"].get("blockedReason") == "csp"])
    assert tab.run("window.hit === undefined")


def test_tables_are_found_through_sorted_and_turned_over(tab: browser.Page, report: Path) -> None:
    tab.look()
    tab.open(report)
    assert rows(tab, KEYS)[0][2] == "expired"
    # However many keys there are, the page holds few rows.
    assert tab.run("document.querySelectorAll('tr').length") < 250
    enter(tab, KEYS, "LONG1 9", "1–25 of 560 that match")
    assert {row[1] for row in rows(tab, KEYS)} == {"long1"}
    tab.run(f"document.querySelector('{KEYS} .pages button:last-child').click()")
    assert count(tab, KEYS) == "26–50 of 560 that match"
    enter(tab, KEYS, "no such key", "0–0 of 0 that match")
    assert rows(tab, KEYS) == []
    enter(tab, KEYS, "<script>", "1–2 of 2 that match")
    assert [row[1] for row in rows(tab, KEYS)] == [statuslab.HOSTILE] * 2
    enter(tab, KEYS, "", "1–25 of 5,000")
    choose = f"document.querySelector('{KEYS} select')"
    choose = f"(s => {{ s.value = 'expiring'; s.dispatchEvent(new Event('change')); }})({choose})"
    tab.run(choose)
    assert count(tab, KEYS) == "1–25 of 1,502 that match"
    head = f"document.querySelectorAll('{KEYS} thead th')[4]"
    tab.run(f"{head}.querySelector('button').click()")
    assert tab.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    ascending = [row[4] for row in rows(tab, KEYS)]
    tab.run(f"{head}.querySelector('button').click()")
    assert tab.run(f"{head}.getAttribute('aria-sort')") == "descending"
    # Numbers as numbers: $9.99 is less than $15.00.
    assert ascending[0] == "$0.01" and rows(tab, KEYS)[0][4] == "$15.00"
    enter(tab, MODELS, "model-00", "1–10 of 10 that match")
    assert [row[0] for row in rows(tab, MODELS)] == [f"model-{number:03}" for number in range(10)]
    assert tab.complaints == []


def test_colours_follow_the_system_until_somebody_chooses(tab: browser.Page, report: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    tab.look(scheme="light")
    tab.open(report)
    tab.run("localStorage.clear()")
    light = tab.run(background)
    tab.look(scheme="dark")
    dark = tab.run(background)
    assert light != dark
    tab.run("document.getElementById('theme').click()")
    assert tab.run(background) == light
    tab.open(report)
    assert tab.run(background) == light  # it is kept
    tab.run("localStorage.clear()")


def test_a_phone_shows_it_without_scrolling_sideways(tab: browser.Page, report: Path) -> None:
    tab.look(390, 844)
    tab.open(report)
    tab.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert tab.run("document.documentElement.scrollWidth") <= 390
    # A moment is in one line, what expires soon is there whole, and what is wider says so at its edge.
    lines = "(r => (r.selectNodeContents(e), r.getClientRects().length))(document.createRange())"
    assert set(tab.run(f"[...document.querySelectorAll('#keys td.t')].map(e => {lines})")) == {1}
    assert tab.run("[...document.querySelectorAll('#keys .two .t')].every(e => e.getBoundingClientRect().right <= 390)")
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    cues = tab.run(f"{wide}.map(e => getComputedStyle(e).backgroundAttachment)")
    assert cues and set(cues) == {"local, local, scroll, scroll"}
    sizes = "[...document.querySelectorAll('svg text, td, p, dd')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert tab.run(f"Math.min(...{sizes})") >= 12


def judged(tab: browser.Page, report: Path, scheme: str, what: str) -> Any:
    """What axe-core finds with everything opened."""
    tab.look(scheme=scheme)
    tab.open(report)
    tab.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    tab.run(axe + "; true")
    said = "bad: r.violations.map(v => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)]), ok: r.passes.length"
    return tab.run(f"axe.run(document, {{runOnly: {what}}}).then(r => ({{{said}}}))")


def test_everybody_can_use_it(tab: browser.Page, report: Path) -> None:
    found = judged(tab, report, "light", "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']")
    assert found["bad"] == [] and found["ok"] > 20
    found = judged(tab, report, "dark", "{type: 'rule', values: ['color-contrast']}")
    assert found == {"bad": [], "ok": 1}
    # Charts are read out, and the numbers behind each can be had.
    charts = tab.run(
        "[...document.querySelectorAll('figure')].filter(f => f.querySelector('svg')).map(f => ["
        "f.querySelector('svg title').textContent, f.querySelector('svg desc').textContent,"
        " f.querySelectorAll('details table caption').length])"
    )
    assert len(charts) > 6 and all(title and described and tables == 1 for title, described, tables in charts)
    # A keyboard gets to the content first, then on to everything in the order of the page.
    tab.open(report)
    order = []
    for _press in range(4):
        tab.press("Tab")
        order.append(tab.run("document.activeElement.textContent.trim()"))
    assert order[0] == "Skip to the content" and order[1].endswith("colours") and order[2] in ("Models", "Keys")


def test_it_can_be_read_without_its_script(tab: browser.Page, report: Path) -> None:
    tab.look()
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.events.clear()
        tab.send("Page.navigate", url=report.as_uri())
        tab.until("document.readyState === 'complete'")
        assert len(rows(tab, KEYS)) == 25 and "needs attention" in tab.run("document.querySelector('h1').textContent")
        assert tab.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    finally:
        tab.send("Emulation.setScriptExecutionDisabled", value=False)
