# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of every module that talks to a Kubernetes API server (code: module_utils/cluster/client.py)."""

from __future__ import annotations


class ModuleDocFragment:
    """Connection to a Kubernetes API server, with the names and variables of kubernetes.core."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of a kubeconfig.
      - Without it and without O(host), the user's own, or the account of the pod that the module itself runs in.
      - Falls back to the environment variable E(K8S_AUTH_KUBECONFIG), unless O(host) is given, or O(api_key)
        with E(K8S_AUTH_HOST).
    type: path
  context:
    description:
      - Context of the kubeconfig; its current one if left out.
      - Falls back to the environment variable E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
      - Address of the API server, without a kubeconfig.
      - Falls back to the environment variable E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - Token to authenticate with at O(host).
      - Falls back to the environment variable E(K8S_AUTH_API_KEY).
    type: str
  validate_certs:
    description:
      - Whether to verify the API server's certificate.
      - Falls back to the environment variable E(K8S_AUTH_VERIFY_SSL).
    type: bool
    default: true
    aliases: [verify_ssl]
  ca_cert:
    description:
      - CA bundle to verify the API server's certificate with.
      - Falls back to the environment variable E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
requirements:
  - kubernetes 24.2.0 or later (on the host that runs the module)
  - openshift 0.13.1 or later (on the host that runs the module; for its dynamic client, whose parent does otherwise)
"""
