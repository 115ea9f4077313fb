# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked for of LiteMaaS's users, before any database is opened."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import people


@pytest.mark.parametrize(
    ("role", "before", "after"),
    [
        ("admin", ["user"], ["admin", "user"]),
        ("admin", [], ["admin", "user"]),
        ("admin", ["user", "admin-readonly", "readonly"], ["admin", "user", "readonly"]),
        ("admin-readonly", ["admin", "user"], ["admin-readonly", "user"]),
        ("user", ["admin", "admin-readonly", "user"], ["user"]),
    ],
)
def test_a_role_is_the_highest_and_others_stay(role, before, after):
    assert people.roles_for(role, before) == after
    assert people.roles_for(role, after) == after


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("max_budget", "50", Decimal("50.00")),
        ("max_budget", "0", Decimal("0.00")),
        ("max_budget", "0.005", Decimal("0.00")),
        ("max_budget", "unlimited", people.LARGEST_BUDGET),
        ("max_budget", "2147483647", people.LARGEST_BUDGET),
        ("tpm_limit", "Unlimited", 2147483647),
        ("rpm_limit", "2147483647", 2147483647),
        ("rpm_limit", "60.0", 60),
        ("budget_duration", " 30d ", "30d"),
        ("budget_duration", "", None),
        ("budget_duration", "monthly", "1mo"),
    ],
)
def test_limits_are_what_the_columns_hold(name, value, stored):
    assert people.limit(name, value) == stored


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_budget", "-1"),
        ("max_budget", "100000000"),
        ("max_budget", "nan"),
        ("max_budget", "a lot"),
        ("tpm_limit", "1.5"),
        ("tpm_limit", "2147483648"),
        ("rpm_limit", "inf"),
        ("rpm_limit", ""),
        ("budget_duration", "garbage"),
        ("budget_duration", "3"),
        ("budget_duration", "-5d"),
    ],
)
def test_what_no_column_holds_is_refused(name, value):
    with pytest.raises(people.PeopleError, match=f"{name} is .*Nothing was written"):
        people.limit(name, value)


@pytest.mark.parametrize(
    ("item", "everybody", "text"),
    [
        ({"role": "admin"}, False, "Nobody is named"),
        ({"user": " ", "role": "admin"}, False, "Nobody is named"),
        ({"role": "admin"}, True, "Name the users"),
        ({"user": "ada"}, False, "Nothing is wanted of ada"),
        ({}, True, "Nothing is wanted of everybody"),
        ({"user": "ada", "tpm_limit": "1"}, True, "Both all and a user"),
    ],
)
def test_what_makes_no_sense_is_refused(item, everybody, text):
    with pytest.raises(people.PeopleError, match=text):
        people.wishes([item], everybody)
