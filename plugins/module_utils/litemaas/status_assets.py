# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the status page looks and what it does; modules are shipped as Python alone, so both are texts here.

Neither holds anything of a deployment: the page's Content-Security-Policy names them by their hashes.
"""

from __future__ import annotations

STYLE = r"""
:root{--bg:#f6f7f8;--card:#fff;--ink:#1a2027;--soft:#56606b;--line:#dfe3e7;--accent:#0a5aa8;--track:#e8edf2;
--broken:#b3261e;--attention:#855000;--healthy:#17683a;--broken-bg:#fdf0ef;--attention-bg:#fdf6e9;--healthy-bg:#eef8f1;
color-scheme:light}
@media (prefers-color-scheme:dark){:root:not([data-theme=light]){--bg:#12161a;--card:#1a2026;--ink:#e6eaee;
--soft:#a5b0bb;--line:#2d353d;--accent:#74b3f5;--track:#2a323a;--broken:#ff9a90;--attention:#f5c06a;--healthy:#83d6a0;
--broken-bg:#2c1b1b;--attention-bg:#2a2317;--healthy-bg:#182620;color-scheme:dark}}
:root[data-theme=dark]{--bg:#12161a;--card:#1a2026;--ink:#e6eaee;--soft:#a5b0bb;--line:#2d353d;--accent:#74b3f5;
--track:#2a323a;--broken:#ff9a90;--attention:#f5c06a;--healthy:#83d6a0;--broken-bg:#2c1b1b;--attention-bg:#2a2317;
--healthy-bg:#182620;color-scheme:dark}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
a{color:var(--accent)}
.skip{position:absolute;left:-999rem}
.skip:focus{left:1rem;top:1rem;background:var(--card);padding:.5rem 1rem;z-index:2}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:3px}
.page{max-width:72rem;margin:0 auto;padding:1.25rem 1.25rem 4rem}
.bar{display:flex;align-items:center;justify-content:space-between;gap:1rem;margin-bottom:1rem;color:var(--soft);
font-size:.9rem}
.bar p{margin:0}
button,input,select{font:inherit;color:inherit;background:var(--card);border:1px solid var(--soft);border-radius:6px;
padding:.35rem .7rem}
button{cursor:pointer}
button:disabled{color:var(--soft);border-color:var(--line);cursor:default}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .4rem;font-weight:650;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:0 0 1rem;font-weight:650}
h3{font-size:1rem;margin:0 0 .6rem;font-weight:600}
.head{border:1px solid var(--line);border-left:6px solid var(--tone);background:var(--tone-bg);border-radius:10px;
padding:1.25rem 1.5rem;margin-bottom:1rem}
.broken{--tone:var(--broken);--tone-bg:var(--broken-bg)}
.attention{--tone:var(--attention);--tone-bg:var(--attention-bg)}
.healthy{--tone:var(--healthy);--tone-bg:var(--healthy-bg)}
.head h1 span{color:var(--tone)}
.reasons{list-style:none;margin:1rem 0 0;padding:0;display:grid;gap:.7rem}
.reasons li{display:grid;grid-template-columns:6.5rem 1fr;gap:.2rem .8rem}
.reasons b{color:var(--tone);font-weight:600}
.reasons .way{grid-column:2;color:var(--soft);font-size:.92rem}
.text{overflow-wrap:anywhere;min-width:0}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:0 0 1.5rem}
.tiles div,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tiles div{padding:.8rem 1rem;display:flex;flex-direction:column}
.tiles dt{color:var(--soft);font-size:.85rem}
.tiles dd{margin:0;font-size:1.5rem;font-weight:650;font-variant-numeric:tabular-nums;line-height:1.3}
.tiles dd+dd{font-size:.85rem;font-weight:400;color:var(--soft)}
.jump{margin:0 0 1.5rem}
.jump ul{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:0;padding:0;font-size:.95rem}
.card{padding:1.25rem 1.5rem;margin:0 0 1rem}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1.5rem 2.5rem}
.two>*{min-width:0}
figure{margin:0}
figcaption{font-weight:600;margin-bottom:.5rem}
svg{display:block;width:100%;overflow:visible}
svg text{fill:var(--ink);font-size:13px}
svg .dim{fill:var(--soft)}
svg .bar-of{fill:var(--accent)}
svg .track{fill:var(--track)}
svg .axis{stroke:var(--line)}
details{margin-top:.6rem}
summary{cursor:pointer;color:var(--accent);font-size:.9rem;width:max-content;max-width:100%}
.scroll{overflow-x:auto;background:linear-gradient(90deg,var(--card) 40%,transparent) 0 0/2.4rem 100% no-repeat local,
linear-gradient(270deg,var(--card) 40%,transparent) 100% 0/2.4rem 100% no-repeat local,
linear-gradient(90deg,rgb(128 140 152/.45),transparent) 0 0/.7rem 100% no-repeat scroll,
linear-gradient(270deg,rgb(128 140 152/.45),transparent) 100% 0/.7rem 100% no-repeat scroll}
.scroll+.scroll,figure+.scroll{margin-top:1.2rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.93rem}
caption{text-align:left;color:var(--soft);font-size:.88rem;padding-bottom:.4rem}
th,td{text-align:left;padding:.4rem .9rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top;
unicode-bidi:isolate}
thead th{color:var(--soft);font-weight:600;white-space:nowrap}
tbody th{font-weight:500;overflow-wrap:anywhere;min-width:9rem}
.n{text-align:right}
.t{white-space:nowrap}
thead .n button{text-align:right}
thead button{border:0;padding:.1rem 0;background:none;color:inherit;font-weight:600}
thead button::after{content:" \2195";color:var(--soft)}
th[aria-sort=ascending] button::after{content:" \2191";color:var(--accent)}
th[aria-sort=descending] button::after{content:" \2193";color:var(--accent)}
.controls,.pages{display:none;flex-wrap:wrap;gap:.6rem 1rem;align-items:end;margin:0 0 .8rem}
.js .controls,.js .pages{display:flex}
.pages{margin:.8rem 0 0;align-items:center}
.controls label{font-size:.88rem;color:var(--soft);display:grid;gap:.2rem}
.controls input{width:min(20rem,100%);color:var(--ink)}
.controls select{color:var(--ink)}
[data-table]{margin-top:1.6rem}
.note{color:var(--soft);margin:.2rem 0 .8rem}
.warn{color:var(--attention)}
pre{overflow-x:auto;background:var(--bg);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;
margin:0 0 1rem;font:.82rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
footer{color:var(--soft);font-size:.88rem;margin-top:2rem}
@media (max-width:36rem){.page{padding:1rem .8rem 3rem}.head,.card{padding:1rem}.reasons li{grid-template-columns:1fr}
.reasons .way{grid-column:1}h1{font-size:1.45rem}
th,td{padding-right:.6rem}tbody th{min-width:4.5rem}.tiles{grid-template-columns:1fr 1fr}}
@media print{body{background:none}.bar button,.controls,.pages,.jump{display:none!important}
.card,.head{break-inside:avoid}}
"""

SCRIPT = r"""
"use strict";
(function () {
  var root = document.documentElement, PAGE = 25;
  root.classList.add("js");

  var toggle = document.getElementById("theme"), kept = null;
  try { kept = localStorage.getItem("litemaas-status-theme"); } catch (refused) { kept = null; }
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  function isDark() { return root.dataset.theme ? root.dataset.theme === "dark" : system.matches; }
  function label() { toggle.textContent = isDark() ? "Light colours" : "Dark colours"; }
  if (kept === "dark" || kept === "light") { root.dataset.theme = kept; }
  toggle.hidden = false;
  toggle.addEventListener("click", function () {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("litemaas-status-theme", root.dataset.theme); } catch (refused) { /* only not kept */ }
    label();
  });
  system.addEventListener("change", label);
  label();

  var read = document.getElementById("read"), hours = (Date.now() - Date.parse(read.dateTime)) / 3600000;
  if (hours >= 1) {
    var age = document.createElement("strong");
    age.textContent = hours < 48 ? " (" + Math.floor(hours) + " h ago)" : " (" + Math.floor(hours / 24) + " days ago)";
    read.parentNode.append(age);
  }

  function compare(a, b) {
    if (a === b) { return 0; }
    if (a === null || a === "") { return 1; }
    if (b === null || b === "") { return -1; }
    return typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1;
  }

  function shown(value, kind) {
    if (value === null || value === "") { return kind === "budget" ? "none" : "–"; }
    if (kind === "money" || kind === "budget") {
      return "$" + Number(value).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
    }
    if (kind === "number") { return Number(value).toLocaleString("en-US"); }
    if (kind === "time") { return String(value).replace("T", " ").slice(0, 16); }
    return String(value);
  }

  document.querySelectorAll("[data-table]").forEach(function (place) {
    var data = JSON.parse(document.getElementById(place.dataset.table).textContent);
    var body = place.querySelector("tbody"), heads = place.querySelectorAll("thead th");
    var find = place.querySelector("input"), choose = place.querySelector("select");
    var count = place.querySelector(".count"), pages = place.querySelector(".pages");
    var buttons = pages.querySelectorAll("button"), where = pages.querySelector("span");
    var stateAt = data.columns.findIndex(function (one) { return one.kind === "state"; });
    var found = data.rows, page = 0, timer = 0;
    // Once for each row, not at each key that is pressed.
    var texts = data.rows.map(function (row) { return row.slice(0, 3).join(" ").toLowerCase(); });
    var order = data.rows.map(function (row, number) { return number; });

    function draw() {
      var last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
      page = Math.min(page, last);
      var part = document.createDocumentFragment();
      found.slice(page * PAGE, (page + 1) * PAGE).forEach(function (number) {
        var line = document.createElement("tr");
        data.columns.forEach(function (column, place) {
          var cell = document.createElement(place ? "td" : "th");
          if (!place) { cell.scope = "row"; }
          if (column.numeric) { cell.className = "n"; }
          if (column.kind === "time") { cell.className = "t"; }
          var value = data.rows[number][place];
          cell.textContent = column.kind === "state" ? data.words[value] : shown(value, column.kind);
          line.append(cell);
        });
        part.append(line);
      });
      body.replaceChildren(part);
      var first = found.length ? page * PAGE + 1 : 0, end = Math.min(found.length, (page + 1) * PAGE);
      count.textContent = first.toLocaleString("en-US") + "–" + end.toLocaleString("en-US") + " of " +
        found.length.toLocaleString("en-US") + (found.length < data.rows.length ? " that match" : "");
      where.textContent = "Page " + (page + 1) + " of " + (last + 1);
      buttons[0].disabled = page === 0;
      buttons[1].disabled = page >= last;
    }

    function filter() {
      var words = find.value.toLowerCase().split(/\s+/).filter(Boolean), state = choose ? choose.value : "";
      found = order.filter(function (number) {
        return (!state || data.rows[number][stateAt] === state) &&
          words.every(function (word) { return texts[number].includes(word); });
      });
      page = 0;
      draw();
    }

    heads.forEach(function (head, column) {
      head.querySelector("button").addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
        heads.forEach(function (one) { one.setAttribute("aria-sort", "none"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        order.sort(function (a, b) {
          var x = data.rows[a][column], y = data.rows[b][column];
          var empty = (x === null || x === "") - (y === null || y === "");
          return empty || sign * compare(x, y) || a - b;
        });
        filter();
      });
    });
    find.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(filter, 120); });
    if (choose) { choose.addEventListener("change", filter); }
    buttons[0].addEventListener("click", function () { page -= 1; draw(); });
    buttons[1].addEventListener("click", function () { page += 1; draw(); });
    filter();
  });
}());
"""
