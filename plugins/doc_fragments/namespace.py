# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of modules that find their servers in a cluster (code: module_utils/cluster/discover.py)."""

from __future__ import annotations


class ModuleDocFragment:
    """The namespace that LiteMaaS runs in."""

    DOCUMENTATION = r"""
options:
  namespace:
    description:
      - Namespace of a cluster that LiteMaaS runs in. What is needed of the servers and isn't given, as an option or in
        the environment, is found there; what is given is never looked up.
      - An address, key or DSN of the environment wins too, and is warned of, as it may be another deployment's.
      - The proxy's address is that of the Route or Ingress that leads to Service C(litellm), the one without a path and
        admitted by a router first. Without one, and from inside the cluster, it is the Service's own.
      - The master key is C(LITELLM_MASTER_KEY) of Secret C(litellm-secret), a secret that keys are derived from
        C(key_secret) of Secret C(litellm-key-derivation), where there is one.
      - The databases are those of Secret C(litemaas-db), C(DATABASE_URL) and C(LITELLM_DATABASE_URL), or
        C(username), C(password) and C(database) in Service C(litellm-postgres). One whose host is a Service is reached
        through the API server, as with C(kubectl port-forward), in a ready pod of that Service.
      - The account needs list on C(routes.route.openshift.io) and C(ingresses.networking.k8s.io), and get on these
        Secrets; for a database get on Services, list on pods, and get and create on C(pods/portforward).
    type: str
  cluster:
    description:
      - How the cluster of O(namespace) is reached, with the names and the variables of the environment that
        kubernetes.core has.
      - Left out, the variables of the environment count, then the user's own kubeconfig, or the account of the pod that
        the module itself runs in.
    type: dict
    suboptions:
      kubeconfig:
        description:
          - Path of a kubeconfig.
          - Without it and without O(cluster.host), the user's own, or the account of the pod that the module itself
            runs in.
          - Falls back to the environment variable E(K8S_AUTH_KUBECONFIG), unless O(cluster.host) is given, or
            O(cluster.api_key) with E(K8S_AUTH_HOST).
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
          - Token to authenticate with at O(cluster.host).
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
  - kubernetes 24.2.0 or later (on the host that runs the module; with O(namespace) only)
"""
