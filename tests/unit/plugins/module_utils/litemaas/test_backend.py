# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the backend's own sync is held back."""

from __future__ import annotations

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import backend


def entry(name, db_model=True):
    return {"model_name": name, "litellm_params": {}, "model_info": {"id": name, "db_model": db_model}}


def catalogue(*available, **subscribed):
    rows = dict.fromkeys(available, "x")
    return backend.Catalogue(rows, frozenset(available), subscribed, sum(subscribed.values()), 0)


TEN = [f"m{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("options", "listed", "before", "text"),
    [
        ({}, [], None, "lists no model"),
        ({}, [entry("a", db_model=False)], None, "lists no model"),
        ({}, [entry("a")], None, None),
        ({}, [entry("a")], catalogue("a", "gone", gone=3), None),
        ({"mark_unavailable": True}, [entry("a")], None, "without LiteMaaS's database"),
        ({"mark_unavailable": True}, [entry("a"), {"model_name": "b"}], catalogue("a"), "unusable entries"),
        ({"mark_unavailable": True}, [entry("a")], catalogue("a", "gone", gone=3), r"unavailable: gone \(3\)"),
        ({"mark_unavailable": True}, [entry("a")], catalogue("a", "gone"), None),
        ({"mark_unavailable": True}, [entry("a")], catalogue("a", *TEN), "10 of 11 would be removed"),
        ({"mark_unavailable": True, "allow_mass_removal": True}, [entry("a")], catalogue("a", *TEN), None),
        ({"mark_unavailable": True, "max_removal_percent": 95}, [entry("a")], catalogue("a", *TEN), None),
    ],
)
def test_what_would_do_harm_is_refused(options, listed, before, text):
    found = backend.refusal(backend.Options(**options), listed, before)
    if text is None:
        assert found is None
    else:
        with pytest.raises(ValueError, match=text):
            raise ValueError(found)


def test_what_a_sync_took_is_said():
    more = backend.Catalogue({}, frozenset("ab"), {}, 5, 4)
    fewer = backend.Catalogue({}, frozenset("a"), {}, 3, 4)
    assert backend.lost(more, fewer).startswith("1 models became unavailable, 2 subscriptions became inactive. ")
    assert backend.lost(fewer, more) == backend.lost(more, more) == backend.lost(None, fewer) == ""
