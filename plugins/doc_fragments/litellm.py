# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of every module that talks to the LiteLLM proxy (code: module_utils/litellm/client.py)."""

from __future__ import annotations


class ModuleDocFragment:
    """Connection to a LiteLLM proxy."""

    DOCUMENTATION = r"""
options:
  litellm_url:
    description:
      - Root address of the LiteLLM proxy, for example V(https://litellm.example.com), without C(/v1).
      - Falls back to the environment variable E(LITELLM_URL), then to what O(namespace) has.
    type: str
    aliases: [url]
  litellm_master_key:
    description:
      - The proxy's master key, or the key of another proxy admin.
      - Falls back to the environment variable E(LITELLM_MASTER_KEY), then to what O(namespace) has.
    type: str
    aliases: [master_key]
  validate_certs:
    description: Whether to verify the proxy's TLS certificate.
    type: bool
    default: true
    aliases: [verify_ssl]
  ca_path:
    description: CA bundle to verify the proxy's certificate with, instead of the system's.
    type: path
    aliases: [ca_cert, ssl_ca_cert]
  client_cert:
    description: Client certificate in PEM format; may hold the key too.
    type: path
  client_key:
    description: Key of O(client_cert) where that file does not hold it.
    type: path
  api_timeout:
    description: Seconds to wait for an answer to one request.
    type: int
    default: 30
    aliases: [timeout]
  retry_count:
    description:
      - How often a request is sent again after a connection error, a 429 (its C(retry-after) is honoured), a 502, 503
        or 504, or when the proxy has no database connection free.
      - A request that creates something is sent again only after a look at whether it took effect.
    type: int
    default: 3
    aliases: [retries]
  retry_delay:
    description: Seconds before the first retry; doubled for each further one, with jitter.
    type: float
    default: 1.0
requirements:
  - requests (on the host that runs the module)
"""
