# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a key may be mounted."""

from __future__ import annotations

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.vertex_credentials import credential_from_options

SYSTEM = """
/ /etc /usr /bin /sbin /lib /lib64 /libx32 /var /tmp /dev /proc /sys /run /app /home /opt /root /etc/litellm
/etc/ssl/certs /usr/local/bin /var/lib /proc/self /run/secrets /var/run/secrets/kubernetes.io/serviceaccount
/etc/ //etc /etc/. /./etc //
""".split()


@pytest.mark.parametrize("folder", SYSTEM)
def test_nothing_is_mounted_over_folders_of_the_image(folder):
    path = f"{folder}/key.json"
    assert "would mount the Secret over" in credential_from_options({"secret": "one", "path": path}).error
    # What was done once can be undone.
    assert not credential_from_options({"secret": "one", "path": path, "state": "absent"}).error


@pytest.mark.parametrize(
    "folder",
    ["/etc/vertex-credentials", "/etc/litellm-keys", "/vertex", "/app/keys", "/var/run/vertex", "/opt/a", "/library/x"],
)
def test_a_folder_of_its_own(folder):
    assert not credential_from_options({"secret": "one", "path": f"{folder}/key.json"}).error
