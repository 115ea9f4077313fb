# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A status as one HTML page that needs nothing else: no request goes out, nothing has to be installed. Pure.

Everything that comes from a deployment passes through :func:`text` or, for the long tables, through JSON that the
script shows as text. Were one forgotten, the page's Content-Security-Policy would still let no script run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.status_assets import SCRIPT, STYLE

Part = Mapping[str, Any]
#: Rows of a long table that are there without the script.
FIRST_ROWS = 25
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
STATES = {
    "healthy": ("✓", "Healthy", "is healthy"),
    "attention": ("!", "Attention", "needs attention"),
    "broken": ("✕", "Broken", "is broken"),
}
TITLES = {
    "keys": "Keys",
    "spend": "Spend",
    "models": "Models",
    "subscriptions": "Subscriptions",
    "pods": "Pods",
    "routes": "Routes",
    "images": "Images",
    "litellm": "LiteLLM",
    "backend": "Backend",
    "database": "Database",
    "redis": "Redis",
    "drift": "Drift between the stores",
    "backups": "Backups",
    "logs": "Logs",
}


def text(value: Any) -> str:
    """A value as text of the page."""
    return html.escape(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", "" if value is None else str(value)))


def page(status: Part) -> str:
    """The whole page."""
    parts = status["parts"]
    where = status["namespace"] or status["litellm_url"] or "this deployment"
    shown = [name for name in TITLES if parts.get(name, {}).get("read") not in (None, "not_asked")]
    apart = [name for name in TITLES if parts.get(name, {}).get("read") == "not_asked"]
    sections = "".join(_section(name, parts[name]) for name in shown)
    jumps = "".join(f'<li><a href="#{name}">{TITLES[name]}</a></li>' for name in shown)
    policy = f"default-src 'none'; img-src data:; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{STATES[status["state"]][1]}: LiteMaaS, {text(where)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<div class="page">
<header class="bar">
<p>Read <time id="read" datetime="{text(status["generated_at"])}">{text(moment(status["generated_at"]))} UTC</time></p>
<button type="button" id="theme" hidden>Dark colours</button>
</header>
<main id="content">
{_head(status, where)}
{_tiles(status)}
<nav class="jump" aria-label="Parts"><ul>{jumps}</ul></nav>
{sections}
{_not_asked({name: parts[name]["why"] for name in apart})}
</main>
<footer><p>{_versions(status)}Made by rhpds.litemaas. The same is in the JSON file beside this page.</p></footer>
</div>
{_data("keys-data", KEY_COLUMNS, parts.get("keys", {}).get("items"))}
{_data("models-data", MODEL_COLUMNS, parts.get("models", {}).get("items"))}
<script>{SCRIPT}</script>
</body>
</html>
"""


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


# ---- head ----


def _head(status: Part, where: str) -> str:
    state = status["state"]
    icon, _word, sentence = STATES[state]
    reasons = "".join(_reason(one) for one in status["reasons"])
    said = (
        f'<ul class="reasons">{reasons}</ul>' if reasons else "<p>Everything that was looked at is as it should be.</p>"
    )
    whole = "" if status["complete"] else '<p class="note">Not everything could be read: this is what is known.</p>'
    return (
        f'<section class="head {state}" aria-labelledby="state"><h1 id="state"><span aria-hidden="true">{icon}</span> '
        f"LiteMaaS in {text(where)} <span>{sentence}</span></h1>{whole}{said}</section>"
    )


def _reason(one: Part) -> str:
    icon, word, _sentence = STATES[one["severity"]]
    way = f"<code>{text(one['advice'])}</code>" if one["advice"].startswith("ansible-playbook") else text(one["advice"])
    advice = f'<span class="way text">{way}</span>' if way else ""
    title = TITLES.get(one["part"], one["part"])
    return (
        f'<li class="{one["severity"]}"><b><span aria-hidden="true">{icon}</span> {word}</b>'
        f'<span class="text"><a href="#{text(one["part"])}">{text(title)}</a>: {text(one["text"])}</span>{advice}</li>'
    )


def _tiles(status: Part) -> str:
    parts = status["parts"]
    found: list[tuple[str, str, str]] = []

    def tile(part: str, name: str, make: Callable[[Part], tuple[str, str]]) -> None:
        if parts.get(part, {}).get("read") in ("read", "partly"):
            found.append((name, *make(parts[part])))

    tile("pods", "Pods ready", _tile_of_pods)
    tile("keys", "Keys that work", _tile_of_keys)
    tile("models", "Models for users", lambda one: (number(one["states"]["both"]), f"of {number(one['count'])}"))
    tile(
        "subscriptions",
        "Active subscriptions",
        lambda one: (number(one["states"].get("active", 0)), f"of {number(one['count'])}"),
    )
    tile(
        "spend",
        f"Spend in {parts.get('spend', {}).get('days')} days",
        lambda one: (money(one["total"]), f"{number(one['requests'])} requests"),
    )
    tile("database", "Database connections", _tile_of_database)
    rows = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd><dd>{text(more)}</dd></div>" for name, value, more in found
    )
    return f'<dl class="tiles">{rows}</dl>' if rows else ""


def _tile_of_pods(part: Part) -> tuple[str, str]:
    ready, wanted = (sum(one[key] for one in part["workloads"]) for key in ("ready", "wanted"))
    restarts = sum(one["restarts"] for one in part["pods"])
    return f"{ready} of {wanted}", f"{number(restarts)} restarts"


def _tile_of_keys(part: Part) -> tuple[str, str]:
    works = sum(part["states"][one] for one in ("alive", "expiring", "without_expiry"))
    return number(works), f"{number(part['states']['expiring'])} expire within {part['expiring_within']}"


def _tile_of_database(part: Part) -> tuple[str, str]:
    one = part["databases"][0]
    return number(one["connections"]), f"of {number(one['max_connections'])}"


def _versions(status: Part) -> str:
    said = ", ".join(f"{text(name)} {text(version)}" for name, version in status["versions"].items())
    return f"{said}. " if said else ""


# ---- sections ----


def _section(name: str, part: Part) -> str:
    body = "".join(f'<p class="warn">Not read: {text(one)}</p>' for one in part["errors"])
    if part["read"] in ("read", "partly"):
        body += _BODIES[name](part)
    title = f'<h2 id="{name}-title">{TITLES[name]}</h2>'
    return f'<section class="card" id="{name}" aria-labelledby="{name}-title">{title}{body}</section>'


def _not_asked(reasons: Mapping[str, str]) -> str:
    rows = [(TITLES[name], why) for name, why in reasons.items()]
    table = _table("What there was no way to", ("Part", "Why"), rows)
    return (
        f'<section class="card" aria-labelledby="apart"><h2 id="apart">Not asked</h2>{table}</section>' if rows else ""
    )


def _keys(part: Part) -> str:
    bars = [(words(state), count, number(count)) for state, count in part["states"].items()]
    chart = _bars("keys-states", "Keys by state", bars, ("State", "Keys"))
    soon = _soon(part) or f'<p class="note">None expires within {text(part["expiring_within"])}.</p>'
    more = {
        "over budget": part["over_budget"],
        "active rows of LiteMaaS without a key": part["orphaned_rows"],
        "revoked in LiteMaaS but alive": part["revoked_but_alive"],
    }
    said = "; ".join(f"{what} {'not known' if count is None else number(count)}" for what, count in more.items())
    listed = len(part["items"])
    note = "" if listed >= part["count"] else f" The table lists {number(listed)}, those that need care first."
    return (
        f'<p class="note">{number(part["count"])} in all; {said}.{note}</p><div class="two">{chart}'
        f"<div><h3>Soon to expire</h3>{soon}</div></div>"
        + _long_table("keys", "All keys" if not note else "Keys", KEY_COLUMNS, part["items"], [*part["states"]])
    )


def _soon(part: Part) -> str:
    """Keys that expire, by guid: as many as stand beside the chart, the others folded."""
    guids = part["expiring_by_guid"]
    years = {str(one[which])[:4] for one in guids for which in ("first", "last")}
    # A phone has no room for a year that is the same everywhere.
    start, where = (5, f", in {years.pop()}") if len(years) == 1 else (0, "")
    rows = [
        (
            "all other guids" if one["guid"] is None else one["guid"] or "no guid",
            number(one["keys"]),
            moment(one["first"])[start:],
            moment(one["last"])[start:],
        )
        for one in guids
    ]
    columns = ("Guid", "#Keys", "First, UTC", "Last, UTC")
    caption = f"Keys that expire within {part['expiring_within']}, by guid{where}"
    more = _table(f"{caption}: the others", columns, rows[BESIDE:])
    folded = f"<details><summary>{number(len(rows) - BESIDE)} more</summary>{more}</details>" if more else ""
    return _table(caption, columns, rows[:BESIDE]) + folded


def _models(part: Part) -> str:
    bars = [(words(state), count, number(count)) for state, count in part["states"].items() if count or state == "both"]
    chart = _bars("models-states", "Models by store and state", bars, ("State", "Models"))
    note = f'<p class="note">{number(part["duplicates"])} of {number(part["count"])} have several deployments.</p>'
    return note + chart + _long_table("models", "All models", MODEL_COLUMNS, part["items"], [*part["states"]])


def _subscriptions(part: Part) -> str:
    bars = [(words(state), count, number(count)) for state, count in part["states"].items()]
    rows = [(one["model"], number(one["subscriptions"])) for one in part["unavailable_models"]]
    stuck = _table("Active subscriptions to models that are unavailable", ("Model", "#Subscriptions"), rows)
    return _bars("subscriptions-states", "Subscriptions by status", bars, ("Status", "Subscriptions")) + stuck


def _spend(part: Part) -> str:
    days = _columns("spend-days", f"Spend by day, {money(part['total'])} in {part['days']} days", part["by_day"])
    charts = [
        _bars(f"spend-{which}", title, [_spent(one, nobody) for one in part[key]], (column, "Spend"))
        for which, title, key, column, nobody in (
            ("models", "Spend by model", "by_model", "Model", "no model"),
            ("guids", "Spend by guid", "by_guid", "Guid", "no guid"),
        )
    ]
    return f'{days}<div class="two">{"".join(charts)}</div>'


def _spent(one: Part, nobody: str) -> tuple[str, float, str]:
    name = f"{number(one['count'])} others" if one["name"] is None else one["name"] or nobody
    return name, one["spend"], f"{money(one['spend'])}, {number(one['requests'])} requests"


def _pods(part: Part) -> str:
    workloads = _table(
        "Workloads",
        ("Name", "Kind", "#Ready"),
        [(one["name"], one["kind"], f"{one['ready']}/{one['wanted']}") for one in part["workloads"]],
    )
    rows = [
        (
            one["name"],
            "ready" if one["ready"] else "not ready",
            number(one["restarts"]),
            moment(one["last_restart"]),
            one["trouble"],
        )
        for one in part["pods"]
    ]
    return workloads + _table("Pods", ("Name", "State", "#Restarts", "Last restart, UTC", "Trouble"), rows)


def _routes(part: Part) -> str:
    rows = [
        (one["name"], one["kind"], one["url"], one["service"], "admitted" if one["admitted"] else one["trouble"])
        for one in part["routes"]
    ]
    return (
        _table("Where people come in", ("Name", "Kind", "Address", "Service", "State"), rows)
        or '<p class="note">None.</p>'
    )


def _images(part: Part) -> str:
    wrong = {(one["workload"], one["container"]) for one in part["mismatches"] if one["init"]}
    rows = [
        (
            one["workload"],
            one["container"] + (" (init)" if one["init"] else ""),
            one["image"],
            "differs from the container" if one["init"] and (one["workload"], one["container"]) in wrong else "",
        )
        for one in part["images"]
    ]
    left = [(one["pod"], one["image"], one["wanted"]) for one in part["mismatches"] if not one["init"]]
    return _table("Images of the workloads", ("Workload", "Container", "Image", "Remark"), rows) + _table(
        "Pods of another image than their workload's", ("Pod", "Runs", "Wanted"), left
    )


def _litellm(part: Part) -> str:
    rows = [
        ("Address", part["url"]),
        ("State", "ready" if part["ready"] else f"not ready: {part.get('words') or part.get('status')}"),
        ("Version", part.get("version") or "not said"),
        ("Cache", part.get("cache") or "none"),
    ]
    return _table("The proxy's own word", ("What", "Value"), rows)


def _backend(part: Part) -> str:
    rows = [
        (
            one["pod"],
            one["health"] or "not asked",
            {True: "made up", False: "of its database", None: "not known"}[one["mock"]],
            one["how"],
        )
        for one in part["backends"]
    ]
    return _table("LiteMaaS's backend, pod by pod", ("Pod", "Health check", "Data", "How that is known"), rows)


def _database(part: Part) -> str:
    out = ""
    for one in part["databases"]:
        rows = [
            ("Version", f"PostgreSQL {one['version']}"),
            ("Size", size(one["bytes"])),
            ("Connections to it", number(one["own_connections"])),
            (
                "Connections to the server",
                f"{number(one['connections'])} of {number(one['max_connections'])}",
            ),
            ("Up since", f"{moment(one['up_since'])} UTC"),
        ]
        largest = [(each["name"], each["bytes"], size(each["bytes"])) for each in one["tables"]]
        chart = _bars(f"tables-{one['which']}", f"Largest tables of {one['database']}", largest, ("Table", "Size"))
        out += f"<div>{_table('Database ' + str(one['database']), ('What', 'Value'), rows)}<br>{chart}</div>"
    return f'<div class="two">{out}</div>'


def _redis(part: Part) -> str:
    if not part["there"]:
        return '<p class="note">There is none.</p>'
    limit = f" of {size(part['max_memory_bytes'])}" if part["max_memory_bytes"] else ", without a limit"
    rows = [
        ("Version", part["version"]),
        ("Memory", size(part["memory_bytes"]) + limit),
        ("Keys", f"{number(part['keys'])}, {number(part['evicted_keys'])} evicted so far"),
        ("Clients", number(part["clients"])),
        ("Up for", f"{part['uptime_seconds'] // 3600} h"),
    ]
    return _table("What Redis says", ("What", "Value"), rows)


DRIFT = {
    "only_in_litellm": "Models only in LiteLLM",
    "only_in_litemaas": "Models only in LiteMaaS",
    "differing": "Rows that differ from LiteLLM",
    "duplicate_names": "Names with several deployments",
    "identical_twins": "Names with deployments that are copies of each other",
    "possible_twins": "The same, but for what LiteLLM doesn't show",
    "config_models": "Models of LiteLLM's config.yaml, which LiteMaaS doesn't show",
    "orphaned_keys": "Active rows whose key LiteLLM doesn't have",
    "keys_without_alias": "The same, without an alias",
    "alive_revoked_keys": "Keys revoked in LiteMaaS that still work",
    "stuck_subscriptions": "Subscriptions that the backend's sync made inactive, of models that are there again",
    "stuck_keys": "Keys that it made inactive with them",
    "waiting_subscriptions": "Subscriptions that it made inactive, of models that are still unavailable",
    "unproven_subscriptions": "Inactive subscriptions of which it isn't certain who made them so",
    "active_on_unavailable": "Active subscriptions to unavailable models",
}


def _drift(part: Part) -> str:
    rows = [
        (title, number(part[name]["count"]), ", ".join(_name(one) for one in part[name]["items"][:10]))
        for name, title in DRIFT.items()
        if name in part
    ]
    said = "".join(f'<p class="note">{text(one)}</p>' for one in part["warnings"])
    return said + _table("What litemaas_db_sync finds", ("What", "#Number", "First names"), rows)


def _name(entry: Any) -> str:
    if isinstance(entry, Mapping):
        entry = entry.get("name") or entry.get("alias") or entry.get("model") or entry.get("id")
    return str(entry)


def _backups(part: Part) -> str:
    rows = [
        (moment(one["time"]), one["file"], size(one["size"] or 0), ", ".join(one["databases"] or ()))
        for one in part["backups"][:20]
    ]
    return (
        _table("Backups that the namespace knows of, newest first", ("Time", "Manifest", "#Size", "Databases"), rows)
        or '<p class="note">None is recorded.</p>'
    )


def _logs(part: Part) -> str:
    return "".join(
        f"<h3>{text(one['pod'])}, container {text(one['container'])}</h3>"
        f'<pre tabindex="0" aria-label="Log of {text(one["pod"])}">'
        f"{text(chr(10).join(one['lines'])) or 'nothing'}</pre>"
        for one in part["logs"]
    )


_BODIES: dict[str, Callable[[Part], str]] = {
    "keys": _keys,
    "spend": _spend,
    "models": _models,
    "subscriptions": _subscriptions,
    "pods": _pods,
    "routes": _routes,
    "images": _images,
    "litellm": _litellm,
    "backend": _backend,
    "database": _database,
    "redis": _redis,
    "drift": _drift,
    "backups": _backups,
    "logs": _logs,
}


# ---- charts ----

ROW, BAR = 44, 10
HEIGHT = 130


def _bars(identity: str, title: str, rows: Sequence[tuple[str, float, str]], columns: Sequence[str]) -> str:
    """Horizontal bars, each with its name and its number above it: nothing has to be told by its colour."""
    most = max([value for _name_of, value, _shown in rows] or [0])
    if not rows:
        return f'<figure><figcaption>{text(title)}</figcaption><p class="note">Nothing to show.</p></figure>'
    lines = ""
    for place, (name, value, shown) in enumerate(rows):
        top = place * ROW
        width = value * 100 / most if most else 0
        short = name if len(name) <= 30 else name[:29] + "…"
        lines += (
            f'<text x="0" y="{top + 15}">{text(short)}</text>'
            f'<text class="dim" x="100%" y="{top + 15}" text-anchor="end">{text(shown)}</text>'
            f'<rect class="track" x="0" y="{top + 22}" width="100%" height="{BAR}" rx="3"/>'
            f'<rect class="bar-of" x="0" y="{top + 22}" width="{width:.2f}%" height="{BAR}" rx="3"/>'
        )
    described = "; ".join(f"{name}: {shown}" for name, _value, shown in rows[:10])
    data = _table(title, (columns[0], f"#{columns[1]}"), [(name, shown) for name, _value, shown in rows])
    return _figure(identity, title, described, len(rows) * ROW, lines, data)


def _columns(identity: str, title: str, days: Sequence[Part]) -> str:
    most = max([one["spend"] for one in days] or [0])
    step = 100 / max(len(days), 1)
    lines = f'<text class="dim" x="0" y="12">{text(money(most))} at most</text>'
    for place, one in enumerate(days):
        height = one["spend"] * (HEIGHT - 45) / most if most else 0
        lines += (
            f'<rect class="bar-of" x="{place * step + step * 0.12:.3f}%" y="{HEIGHT - 22 - height:.1f}"'
            f' width="{step * 0.76:.3f}%" height="{height:.1f}">'
            f"<title>{text(one['day'])}: {text(money(one['spend']))}</title></rect>"
        )
    lines += f'<line class="axis" x1="0" x2="100%" y1="{HEIGHT - 21.5}" y2="{HEIGHT - 21.5}"/>'
    if days:
        lines += f'<text class="dim" x="0" y="{HEIGHT - 4}">{text(days[0]["day"])}</text>'
        lines += f'<text class="dim" x="100%" y="{HEIGHT - 4}" text-anchor="end">{text(days[-1]["day"])}</text>'
    largest = sorted(days, key=lambda one: -one["spend"])[:3]
    described = "The largest days: " + ", ".join(f"{one['day']} {money(one['spend'])}" for one in largest)
    rows = [(one["day"], money(one["spend"]), number(one["requests"])) for one in days]
    return (
        _figure(identity, title, described, HEIGHT, lines, _table(title, ("Day", "#Spend", "#Requests"), rows)) + "<br>"
    )


def _figure(identity: str, title: str, described: str, height: int, lines: str, data: str) -> str:
    return (
        f"<figure><figcaption>{text(title)}</figcaption>"
        f'<svg role="img" height="{height}" aria-labelledby="{identity}-t {identity}-d">'
        f'<title id="{identity}-t">{text(title)}</title><desc id="{identity}-d">{text(described)}</desc>{lines}</svg>'
        f"<details><summary>{text(title)}: the figures</summary>{data}</details></figure>"
    )


# ---- tables ----


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; a column whose name begins with # is of numbers, one that ends with UTC of moments."""
    lines = "".join(_row(columns, row) for row in rows)
    if not lines:
        return ""
    heads = "".join(f'<th scope="col"{_class_of(one)}>{text(one.lstrip("#"))}</th>' for one in columns)
    return (
        f'<div class="scroll" role="region" aria-label="{text(caption)}" tabindex="0">'
        f"<table><caption>{text(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _row(columns: Sequence[str], row: Sequence[Any]) -> str:
    cells = [f'<th scope="row">{text(row[0])}</th>']
    cells += [f"<td{_class_of(column)}>{text(value)}</td>" for column, value in zip(columns[1:], row[1:], strict=True)]
    return f"<tr>{''.join(cells)}</tr>"


def _class_of(column: str) -> str:
    return " class=n" if column.startswith("#") else " class=t" if column.endswith("UTC") else ""


#: Field, heading, kind.
KEY_COLUMNS = (
    ("alias", "Alias", "text"),
    ("guid", "Guid", "text"),
    ("state", "State", "state"),
    ("expires", "Expires, UTC", "time"),
    ("spend", "Spend", "money"),
    ("max_budget", "Budget", "budget"),
)
MODEL_COLUMNS = (
    ("name", "Name", "text"),
    ("display_name", "Shown as", "text"),
    ("state", "State", "state"),
    ("deployments", "Deployments", "number"),
    ("availability", "Availability", "text"),
    ("provider", "Provider", "text"),
    ("active_subscriptions", "Subscriptions", "number"),
)
NUMERIC = ("money", "budget", "number")
#: Rows of a table that are as high as the chart beside it.
BESIDE = 6


def _long_table(
    name: str, caption: str, columns: Sequence[tuple[str, str, str]], items: Sequence[Part], states: Sequence[str]
) -> str:
    """A table of which the script shows a page at a time; its rows are in :func:`_data`."""
    heads = "".join(
        f'<th scope="col" aria-sort="none"{" class=n" if kind in NUMERIC else ""}>'
        f'<button type="button">{text(title)}</button></th>'
        for _field, title, kind in columns
    )
    named = [f"#{title}" if kind in NUMERIC else title for _field, title, kind in columns]
    first = "".join(
        _row(named, [_shown(one[field], kind) for field, _title, kind in columns]) for one in items[:FIRST_ROWS]
    )
    choices = "".join(f'<option value="{text(one)}">{text(words(one))}</option>' for one in states)
    return f"""<div data-table="{name}-data"><h3>{text(caption)}</h3>
<div class="controls"><label>Find in {text(caption.lower())}<input type="search" autocomplete="off"></label>
<label>State<select><option value="">any</option>{choices}</select></label></div>
<p class="note count" role="status">{number(min(len(items), FIRST_ROWS))} of {number(len(items))}</p>
<div class="scroll" role="region" aria-label="{text(caption)}" tabindex="0">
<table><caption>{text(caption)}, sorted by a press on a heading</caption>
<thead><tr>{heads}</tr></thead><tbody>{first}</tbody></table></div>
<div class="pages" role="group" aria-label="Pages of {text(caption.lower())}">
<button type="button">Previous</button><span></span><button type="button">Next</button></div></div>"""


def _shown(value: Any, kind: str) -> str:
    if value is None or value == "":
        return "none" if kind == "budget" else "–"
    if kind in ("money", "budget"):
        return money(value)
    if kind == "number":
        return number(value)
    return moment(value) if kind == "time" else words(str(value)) if kind == "state" else str(value)


def _data(identity: str, columns: Sequence[tuple[str, str, str]], items: Sequence[Part] | None) -> str:
    """Rows for the script. Nothing in them can end the element that they are in."""
    if items is None:
        return ""
    content = {
        "columns": [{"kind": kind, "numeric": kind in NUMERIC} for _field, _title, kind in columns],
        "rows": [[one[field] for field, _title, _kind in columns] for one in items],
        "words": {state: words(state) for state in {one["state"] for one in items}},
    }
    written = json.dumps(content, separators=(",", ":"))  # beyond ASCII as \u…
    for one in "<>&":
        written = written.replace(one, f"\\u{ord(one):04x}")
    return f'<script type="application/json" id="{identity}">{written}</script>'


# ---- words ----


WORDS = {
    "only_litellm": "only in LiteLLM",
    "only_litemaas": "only in LiteMaaS",
    "both": "in both, available",
    "unavailable": "in both, unavailable",
    "config": "in config.yaml",
    "unknown": "not known",
}


def words(state: str) -> str:
    """A state as people read it."""
    return WORDS.get(state, state.replace("_", " "))


def number(value: float) -> str:
    """A whole number as people read it."""
    return f"{value:,.0f}"


def money(value: float) -> str:
    """US dollars."""
    return f"${value:,.2f}"


def moment(value: str | None) -> str:
    """A moment without its seconds."""
    return str(value).replace("T", " ")[:16] if value else "–"


def size(value: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit != "MB" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GB"
