# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Secrets of a deployment: read first, made only where missing, never made anew.

A value that is there wins over one that is given, and that over a generated one: a database keeps its password, and
what LiteLLM has encrypted needs the key that it was encrypted with. :func:`plan` says what each Secret is to hold and
:func:`lost` what must not be generated; both are pure. :class:`Keeper` reads and writes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import MANAGER

DATABASE, LITELLM, BACKEND = "litemaas-db", "litellm-secret", "backend-secret"
REDIS, DERIVATION = "litellm-redis", "litellm-key-derivation"
NAMES = (DATABASE, LITELLM, BACKEND, REDIS, DERIVATION)
#: On every object that we make.
MANAGED_BY = "app.kubernetes.io/managed-by"
LABELS = {MANAGED_BY: MANAGER, "app.kubernetes.io/part-of": "litemaas"}
#: On a namespace that we made.
CREATED = "rhpds.litemaas/created"
MASTER, SALT = "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY"
URL, LITELLM_URL = "DATABASE_URL", "LITELLM_DATABASE_URL"
POSTGRES, PORT = "litellm-postgres", 5432
#: Claim templates of its StatefulSet, in this release and in older ones.
CLAIM_TEMPLATES = ("postgres-storage", "postgres-data", "data")
ADMIN_PREFIX = "ltm_admin_"
#: The keys whose values may be shown: the rest of a Secret is.
PUBLIC = frozenset({"username", "database", "litellm_database", "UI_USERNAME", "host", "port"})
#: Option of the module → Secret, key, and the role's variable ("" where it has none).
OPTIONS = {
    "database.username": (DATABASE, "username", "ocp4_workload_litemaas_ha_postgres_user"),
    "database.password": (DATABASE, "password", "ocp4_workload_litemaas_ha_postgres_password"),
    "database.litemaas": (DATABASE, "database", "ocp4_workload_litemaas_ha_postgres_db"),
    "database.litellm": (DATABASE, "litellm_database", "ocp4_workload_litemaas_ha_litellm_postgres_db"),
    "master_key": (LITELLM, MASTER, "ocp4_workload_litemaas_litellm_master_key"),
    "salt_key": (LITELLM, SALT, "ocp4_workload_litemaas_litellm_salt_key"),
    "ui_username": (LITELLM, "UI_USERNAME", "ocp4_workload_litemaas_litellm_ui_username"),
    "ui_password": (LITELLM, "UI_PASSWORD", "ocp4_workload_litemaas_litellm_ui_password"),
    "license": (LITELLM, "LITELLM_LICENSE", "ocp4_workload_litemaas_litellm_license_key"),
    "jwt_secret": (BACKEND, "JWT_SECRET", "ocp4_workload_litemaas_jwt_secret"),
    "admin_api_key": (BACKEND, "ADMIN_API_KEY", "ocp4_workload_litemaas_admin_api_key"),
    "oauth_client_secret": (BACKEND, "OAUTH_CLIENT_SECRET", "ocp4_workload_litemaas_oauth_client_secret"),
    "redis_password": (REDIS, "password", "ocp4_workload_litemaas_redis_password"),
    "key_secret": (DERIVATION, "key_secret", ""),
}
#: What gives the database and its Secret another password.
ROTATION = "rhpds.litemaas.rotate_database_password"
#: The part of a deployment → the keys that its pods are started with.
DEPENDS: dict[str, dict[str, tuple[str, ...]]] = {
    "postgres": {DATABASE: ("username", "password", "database", "litellm_database")},
    "redis": {REDIS: ("password",)},
    "migration": {DATABASE: (LITELLM_URL,)},
    "litellm": {
        DATABASE: (LITELLM_URL,),
        LITELLM: (MASTER, SALT, "UI_USERNAME", "UI_PASSWORD", "LITELLM_LICENSE"),
        REDIS: ("host", "port", "password"),
    },
    "backend": {
        DATABASE: (URL, LITELLM_URL),
        LITELLM: (MASTER,),
        BACKEND: ("JWT_SECRET", "ADMIN_API_KEY", "OAUTH_CLIENT_SECRET"),
    },
    "mcp": {LITELLM: (MASTER,), BACKEND: ("ADMIN_API_KEY",)},
}
#: What results consist of: Ansible would take a secret that is part of it out of every name.
WORDS = " ".join([*NAMES, *DEPENDS, "created updated deleted namespace checksums results notes changed action none"])
RIGHTS = "get, list, create, patch and delete on secrets"
#: Writes that meet somebody else's are begun again, this often.
TRIES = 5

Values = dict[str, dict[str, str]]


class SecretsError(ValueError):
    """What can't be done without losing something; nothing was written."""


@dataclass
class Wish:
    """What is asked for. A value of "" is not given.

    Attributes:
        given: Secret → key → value.
        database: host, port, sslmode, params, litellm_params, url, litellm_url, litemaas, litellm (database names).
        always: whether given values take the place of what is there.
        redis: whether there is a Redis; redis_host and redis_port where it is somebody else's.
    """

    namespace: str
    given: Values = field(default_factory=dict)
    database: Mapping[str, Any] = field(default_factory=dict)
    always: bool = False
    redis: bool = True
    redis_host: str = ""
    redis_port: int = 6379
    derivation: bool = True

    @property
    def external(self) -> bool:
        """Whether the database is somebody else's."""
        return bool(self.database.get("host") or self.database.get("url"))

    def value(self, name: str, key: str) -> str:
        """A given value; "" where there is none."""
        return self.given.get(name, {}).get(key) or ""


@dataclass
class Plan:
    """What each Secret is to hold of ours, and what has to be told about it."""

    wanted: Values
    notes: list[str] = field(default_factory=list)


# Pure.


def named(option: str) -> str:
    """An option of the module under the name of the role's variable too, which is what most people have set."""
    variable = OPTIONS[option][2]
    return f"{variable} (option {option})" if variable else option


def kept(wish: Wish, wanted: Values) -> list[str]:
    """What was given and isn't what the Secrets hold or will hold: names, never values."""
    sentences = []
    for option, (name, key, variable) in OPTIONS.items():
        given = wish.value(name, key)
        there = wanted.get(name, {}).get(key, "")
        if given and there and given != there:
            way_on = f", which {ROTATION} changes" if option == "database.password" else ""
            sentences.append(f"{key} of Secret {name}{way_on}, not {variable or option}")
    return sentences


def decoded(secret: Mapping[str, Any] | None) -> dict[str, str]:
    """The usable values of a Secret: what isn't text, or is empty, counts as missing."""
    found = {}
    for key, value in ((secret or {}).get("data") or {}).items():
        try:
            text = base64.b64decode(value or "", validate=True).decode()
        except ValueError:
            continue
        if text.strip():
            found[key] = text
    return found


@dataclass(frozen=True)
class Address:
    """A database's URL in parts."""

    username: str = ""
    password: str = ""
    host: str = ""
    port: int = PORT
    name: str = ""
    params: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, url: str) -> Address:
        """Of what is a URL with a host; otherwise of nothing."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port or PORT
        except ValueError:
            return cls()
        if not parts.scheme.startswith("postgres") or not parts.hostname:
            return cls()
        user, password = (unquote(text or "") for text in (parts.username, parts.password))
        params = tuple(parse_qsl(parts.query, keep_blank_values=True))
        return cls(user, password, parts.hostname, port, unquote(parts.path.lstrip("/")), params)

    def url(self) -> str:
        """The URL, with everything encoded that has to be."""
        user, password, name = (quote(text, safe="") for text in (self.username, self.password, self.name))
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?{urlencode(self.params)}" if self.params else ""
        return f"postgresql://{user}:{password}@{host}:{self.port}/{name}{query}"

    def in_line_with(self, wanted: Address, namespace: str) -> bool:
        """Whether it leads to the same database, with all parameters that are wanted."""
        return (
            (self.username, self.password, self.port, self.name)
            == (wanted.username, wanted.password, wanted.port, wanted.name)
            and short_host(self.host, namespace) == short_host(wanted.host, namespace)
            and dict(wanted.params).items() <= dict(self.params).items()
        )


def short_host(host: str, namespace: str) -> str:
    """A Service's name without what the cluster's DNS may add to it."""
    return re.sub(rf"\.{re.escape(namespace)}(\.svc(\.cluster\.local)?)?\.?$", "", host)


def lost(found: Values, running: Mapping[str, str], given: Iterable[str], volumes: Iterable[str]) -> list[str]:
    """What is missing and must not be generated, a sentence each, with the way on.

    Args:
        found: usable values, Secret → key → value.
        running: see :func:`running_values`; {} where there is no deployment.
        given: names of what will be given: ``password``, ``master_key``, ``salt_key``.
        volumes: names of the database's volume claims; none of a database that is somebody else's.
    """
    given, volumes = set(given), sorted(volumes)
    there = f"while the database's volume {', '.join(volumes)} is there" if volumes else "while LiteLLM is deployed"
    sentences = []
    database = found.get(DATABASE, {})
    known = database.get("password") or Address.of(database.get(URL, "")).password
    if volumes and not known and "password" not in given:
        sentences.append(
            f"Secret {DATABASE} has no usable password, {there}, and a new password would not be the database's:"
            f" restore the Secret from its backup, or give the old password ({named('database.password')}), or remove"
            " the volume if its data may go"
        )
    keys = found.get(LITELLM, {})
    has = {name for name in (MASTER, SALT) if keys.get(name) or running.get(name)}
    if (volumes or running) and not has and not given & {"master_key", "salt_key"}:
        sentences.append(
            f"Secret {LITELLM} has neither a usable {MASTER} nor a {SALT}, {there}: the credentials of its models are"
            " encrypted with one of them, and would be lost with a new one. Restore the Secret from its backup, or give"
            f" the old {named('salt_key')}, or {named('master_key')} where no salt key was set"
        )
    elif running.get(SALT) == "" and not keys.get(SALT) and "salt_key" not in given:
        sentences.append(
            f"Secret {LITELLM} has no usable {SALT}, though LiteLLM is deployed with one: the credentials of its models"
            " are encrypted with it, and not with the master key. Restore the Secret from its backup, or give the old"
            f" {named('salt_key')}; a pod that was started with it still has it (printenv {SALT})"
        )
    return sentences


def overwritten(found: Values, wish: Wish, volumes: Iterable[str]) -> str:
    """What would take the place of the only password of a volume, with the way on; "" where nothing would.

    Args:
        found: usable values that are there, Secret → key → value.
        volumes: names of the volume claims of the database in the namespace.
    """
    there = found.get(DATABASE, {})
    address = Address.of(there.get(URL, ""))
    password = there.get("password") or address.password
    host = short_host(address.host, wish.namespace) or POSTGRES
    names = ", ".join(sorted(volumes))
    # Where the Secret is of another database already, the volume's password isn't in it any more.
    if not names or not password or host != POSTGRES:
        return ""
    if wish.external:
        wanted = Address.of(str(wish.database["url"])).host if wish.database.get("url") else wish.database["host"]
        if not wanted or short_host(str(wanted), wish.namespace) == POSTGRES:
            return ""
        return (
            f"The deployment's database is in the volume {names}, whose only password is in Secret {DATABASE}: that of"
            f" the database at {wanted} would take its place. Back the databases up (playbook rhpds.litemaas.backup),"
            f" note {SALT} of Secret {LITELLM}, remove the deployment with its volume, restore the backup into the"
            " other database, then deploy with it and with that salt_key"
        )
    given = wish.value(DATABASE, "password")
    if wish.always and given and given != password:
        return (
            f"{named('database.password')} is not the one in Secret {DATABASE}, and PostgreSQL reads one only when it"
            f" makes its volume ({names} is there): it would keep the old one, and nobody would know it. Leave it out."
            f" {ROTATION} sets another one in both; LITEMAAS_NEW_DATABASE_PASSWORD in its environment says which"
        )
    return ""


def plan(found: Values, running: Mapping[str, str], wish: Wish, data: bool) -> Plan:
    """What each Secret is to hold.

    Args:
        found: usable values that are there, Secret → key → value.
        running: see :func:`lost`.
        data: whether there is a deployment, or a volume of one.

    Raises:
        SecretsError: given values that would make stored data unreadable, or that can't be right.
    """
    result = Plan({})
    result.wanted[DATABASE] = _database(found.get(DATABASE, {}), wish, result.notes, data)
    result.wanted[LITELLM] = _litellm(found.get(LITELLM, {}), running, wish, result.notes, data)
    result.wanted[BACKEND] = _backend(found.get(BACKEND, {}), wish, result.notes)
    if wish.redis:
        result.wanted[REDIS] = _redis(found.get(REDIS, {}), wish)
    if wish.derivation:
        chosen = _chosen(found.get(DERIVATION, {}), wish, DERIVATION, "key_secret", lambda: secrets.token_urlsafe(32))
        if len(chosen.encode()) < 32:
            raise SecretsError(
                f"key_secret (Secret {DERIVATION}) is shorter than 32 bytes. Give a longer one, for example out of"
                " openssl rand -base64 32"
            )
        result.wanted[DERIVATION] = {"key_secret": chosen}
    return result


def _chosen(there: Mapping[str, str], wish: Wish, name: str, key: str, make: Callable[[], str]) -> str:
    """What is there, else what is given, else what is made."""
    given = wish.value(name, key)
    if given and wish.always:
        return given
    return there.get(key) or given or make()


def _database(there: Mapping[str, str], wish: Wish, notes: list[str], data: bool) -> dict[str, str]:
    options = wish.database
    ours, theirs = Address.of(there.get(URL, "")), Address.of(there.get(LITELLM_URL, ""))
    if options.get("url"):
        return _given_urls(options)
    # A database of somebody else's has the password that somebody says; ours has the one that it was made with.
    first = wish.always or wish.external

    def part(key: str, inside: str, otherwise: Callable[[], str]) -> str:
        given = wish.value(DATABASE, key)
        kept = there.get(key) or inside
        return (given or kept if first else kept or given) or otherwise()

    username = part("username", ours.username, lambda: "litellm")
    if wish.external and not wish.value(DATABASE, "password") and not there.get("password") and not ours.password:
        raise SecretsError(
            f"The external database {options['host']} has no password given. Give"
            f" {named('database.password')}, or database.url"
        )
    password = part("password", ours.password, lambda: secrets.token_urlsafe(24))
    name = _name(there.get("database") or ours.name, options.get("litemaas"), "litemaas", "litemaas_db", wish, data)
    # Older deployments keep both in one database, and know of one URL alone.
    old = there.get("litellm_database") or theirs.name or (name if there.get(URL) else "")
    other = _name(old, options.get("litellm"), "litellm", "litellm_db", wish, data)
    host, port = options.get("host") or POSTGRES, int(options.get("port") or PORT)
    sslmode = options.get("sslmode") or ("" if wish.external else "disable")
    wanted = {"username": username, "password": password, "database": name, "litellm_database": other}
    for key, old_address, database, params in (
        (URL, ours, name, options.get("params")),
        (LITELLM_URL, theirs, other, options.get("litellm_params")),
    ):
        given = {key: _text(value) for key, value in (params or {}).items()}
        asked = ({"sslmode": sslmode} if sslmode else {}) | given
        address = Address(username, password, host, port, database, tuple(asked.items()))
        if there.get(key) and old_address.in_line_with(address, wish.namespace):
            wanted[key] = there[key]
        else:
            kept = dict(old_address.params) if short_host(old_address.host, wish.namespace) == host else {}
            address = Address(username, password, host, port, database, tuple((kept | asked).items()))
            wanted[key] = address.url()
            if there.get(key):
                notes.append(f"{key} in Secret {DATABASE} did not agree with what stands beside it: brought in line")
    return wanted


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _name(there: str, given: Any, option: str, default: str, wish: Wish, data: bool) -> str:
    """The name of a database. Another name than that of a database with data would be an empty one."""
    if there and given and there != given and data and not wish.always and not wish.external:
        raise SecretsError(
            f"{named('database.' + option)} is {given}, but the deployment's database is {there} (Secret {DATABASE}),"
            f" and its data would not be in {given}. Leave it out, or move the data and set update_secrets to always"
        )
    return str(given if given and (wish.always or wish.external) else there or given or default)


def _given_urls(options: Mapping[str, Any]) -> dict[str, str]:
    """Of a database of somebody else's: the URLs, as they were given."""
    urls = {URL: str(options["url"]), LITELLM_URL: str(options.get("litellm_url") or options["url"])}
    for key, url in urls.items():
        address = Address.of(url)
        if not (address.host and address.name and address.username):
            option = "database.url" if key == URL else "database.litellm_url"
            raise SecretsError(f"{option} is no URL of a database: postgresql://user:password@host:5432/name")
    ours, theirs = Address.of(urls[URL]), Address.of(urls[LITELLM_URL])
    parts = {"username": ours.username, "password": ours.password, "database": ours.name}
    return {key: value for key, value in parts.items() if value} | {"litellm_database": theirs.name} | urls


def _litellm(
    there: Mapping[str, str], running: Mapping[str, str], wish: Wish, notes: list[str], data: bool
) -> dict[str, str]:
    old_master = there.get(MASTER) or running.get(MASTER) or ""
    given = wish.value(LITELLM, SALT)
    # Without a salt key LiteLLM encrypts with its master key: from then on that is the salt key, whatever else changes.
    salt = there.get(SALT) or running.get(SALT) or old_master
    if salt and given and given != salt and data:
        raise SecretsError(
            f"{named('salt_key')} is not the key that the stored models' credentials are encrypted with"
            f" ({SALT} of the deployment, or its master key where it has none), and can't be changed. Leave it out"
        )
    if given and wish.always and not data:
        salt = given
    if not salt and data and not given:
        # What lost() let pass: the given master key is the old one.
        salt = wish.value(LITELLM, MASTER)
    if not there.get(SALT) and salt and salt == (old_master or wish.value(LITELLM, MASTER)):
        notes.append(f"{SALT} is the current master key: the stored models' credentials are encrypted with it")
    master = wish.value(LITELLM, MASTER) if wish.always else ""
    master = master or old_master or wish.value(LITELLM, MASTER) or f"sk-{secrets.token_urlsafe(32)}"
    wanted = {
        MASTER: master,
        SALT: salt or given or f"sk-{secrets.token_urlsafe(32)}",
        "UI_USERNAME": _chosen(there, wish, LITELLM, "UI_USERNAME", lambda: "admin"),
        "UI_PASSWORD": _chosen(there, wish, LITELLM, "UI_PASSWORD", lambda: secrets.token_urlsafe(18)),
    }
    # Nothing hangs on a licence: the one that is given is the one that is meant.
    licence = wish.value(LITELLM, "LITELLM_LICENSE") or there.get("LITELLM_LICENSE")
    return wanted | ({"LITELLM_LICENSE": licence} if licence else {})


def _backend(there: Mapping[str, str], wish: Wish, notes: list[str]) -> dict[str, str]:
    given = wish.value(BACKEND, "ADMIN_API_KEY")
    if given and not given.startswith(ADMIN_PREFIX):
        raise SecretsError(
            f"{named('admin_api_key')} has to begin with {ADMIN_PREFIX}, or the backend doesn't take it for one"
        )
    admin = _chosen(there, wish, BACKEND, "ADMIN_API_KEY", lambda: ADMIN_PREFIX + secrets.token_urlsafe(32))
    if not admin.startswith(ADMIN_PREFIX):
        notes.append(
            f"ADMIN_API_KEY in Secret {BACKEND} doesn't begin with {ADMIN_PREFIX}, so that the backend takes it for no"
            f" admin's: give {named('admin_api_key')}, and update_secrets=always"
        )
    return {
        "JWT_SECRET": _chosen(there, wish, BACKEND, "JWT_SECRET", lambda: secrets.token_urlsafe(48)),
        "ADMIN_API_KEY": admin,
        "OAUTH_CLIENT_SECRET": _chosen(there, wish, BACKEND, "OAUTH_CLIENT_SECRET", lambda: secrets.token_urlsafe(32)),
    }


def _redis(there: Mapping[str, str], wish: Wish) -> dict[str, str]:
    wanted = {"host": wish.redis_host or REDIS, "port": str(wish.redis_port)}
    given = wish.value(REDIS, "password")
    if wish.redis_host:
        # Of somebody else's Redis; it may have none.
        password = given or (there.get("password", "") if there.get("host") == wish.redis_host else "")
    else:
        password = _chosen(there, wish, REDIS, "password", lambda: secrets.token_urlsafe(24))
    return wanted | ({"password": password} if password else {})


def checksums(values: Values) -> dict[str, str]:
    """The part of a deployment → what changes when a value that its pods are started with does; tells no value."""
    key = values.get(LITELLM, {}).get(SALT, "")
    found = {}
    for part, needs in DEPENDS.items():
        lines = [f"{name}/{one}={values.get(name, {}).get(one, '')}" for name, keys in needs.items() for one in keys]
        found[part] = hmac.new(key.encode(), "\0".join(lines).encode(), hashlib.sha256).hexdigest()[:16]
    return found


# Against the API server.


def running_values(client: Rest, namespace: str, deployment: Mapping[str, Any] | None) -> dict[str, str]:
    """Master and salt key as the Deployment's pods get them from elsewhere; "" where that is our Secret.

    Raises ClusterError.
    """
    found: dict[str, str] = {}
    for container in ((deployment or {}).get("spec") or {}).get("template", {}).get("spec", {}).get("containers", ()):
        for entry in container.get("env") or ():
            reference = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
            if entry["name"] not in (MASTER, SALT):
                continue
            if entry.get("value"):
                found.setdefault(entry["name"], entry["value"])
            elif reference and reference["name"] != LITELLM:
                values = decoded(client.find(path(namespace, reference["name"]), "get on secrets"))
                if reference["key"] in values:
                    found.setdefault(entry["name"], values[reference["key"]])
            elif reference and not reference.get("optional"):
                found.setdefault(entry["name"], "")
        for source in container.get("envFrom") or ():
            name = (source.get("secretRef") or {}).get("name")
            if name and name != LITELLM:
                values = decoded(client.find(path(namespace, name), "get on secrets"))
                for key in (MASTER, SALT):
                    if values.get(key):
                        found.setdefault(key, values[key])
    return found


def claim_templates(postgres: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Names of the claim templates that the database's volumes are made of; those known where there is no StatefulSet.

    None of a StatefulSet that isn't ours: what it uses is its owner's.
    """
    if postgres is None:
        return CLAIM_TEMPLATES
    if (postgres["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
        return ()
    return tuple(one["metadata"]["name"] for one in postgres["spec"].get("volumeClaimTemplates") or ())


def is_volume(claim: Mapping[str, Any], templates: Collection[str] | None = None) -> bool:
    """Whether a volume claim is the database's. What is marked as somebody else's never is.

    Args:
        templates: names of claim templates that it may be made of; any at all where left out, as is right for what
            must not be lost, and wrong for what is to be deleted.
    """
    metadata = claim["metadata"]
    labels = metadata.get("labels") or {}
    if labels.get(MANAGED_BY, MANAGER) != MANAGER:
        return False
    if templates is None and labels.get("app") == POSTGRES:
        return True
    made = re.fullmatch(rf"(.+)-{POSTGRES}-[0-9]+", metadata["name"])
    return made is not None and (templates is None or made[1] in templates)


def path(namespace: str, name: str = "") -> str:
    """Of a Secret, or of all."""
    return f"/api/v1/namespaces/{namespace}/secrets" + (f"/{quote(name)}" if name else "")


class Keeper:
    """Reads and writes the Secrets of a deployment."""

    def __init__(self, client: Rest, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        #: Every value that is not to be shown, as soon as it is known.
        self.values: set[str] = set()

    def present(self, wish: Wish, check_mode: bool) -> dict[str, Any]:
        """Make what is missing; the module's result. Raises SecretsError, ClusterError."""
        self._remember(wish.given.values())
        before = {name: self._read(name) for name in NAMES}
        base = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/litellm"
        deployment = self.client.find(base, "get on deployments.apps")
        base = f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims"
        claims = self.client.get(base, "list on persistentvolumeclaims")["items"]
        inside = [one["metadata"]["name"] for one in claims if is_volume(one)]
        volumes = [] if wish.external else inside
        running = running_values(self.client, self.namespace, deployment)
        self._remember([running])
        written: dict[str, dict[str, Any]] = {}
        for attempt in range(TRIES):
            found = {name: decoded(secret) for name, secret in before.items()}
            self._remember(found.values())
            self._refuse_loss(found, running, wish, inside, deployment is not None)
            planned = plan(found, running, wish, bool(volumes) or deployment is not None)
            self._remember(planned.wanted.values())
            results = [self._difference(name, before[name], planned.wanted[name]) for name in planned.wanted]
            if check_mode:
                break
            clash = self._write(before, results, planned.wanted, written)
            if not clash:
                break
            if attempt == TRIES - 1:
                raise ClusterError(
                    f"Write Secret {clash} in {self.namespace}", f"somebody else changed it {TRIES} times", "Run again"
                )
            before = {name: self._read(name) for name in NAMES}
        after = {name: found.get(name, {}) | planned.wanted.get(name, {}) for name in NAMES}
        # What an attempt before the last one wrote is there by now.
        results = [one if one["changed"] else written.get(one["name"], one) for one in results]
        changed = [one for one in results if one["changed"]]
        said = [f"{one['name']} {_DONE[one['action']]}" for one in changed]
        said = said or ["everything there"]
        return {
            "changed": bool(changed),
            "msg": f"Secrets in {self.namespace}: {', '.join(said)}" + (" (check mode)" if check_mode else ""),
            "results": results,
            "checksums": checksums(after),
            "notes": planned.notes,
            "kept": kept(wish, planned.wanted),
        }

    def absent(self, keep: Iterable[str], check_mode: bool) -> dict[str, Any]:
        """Delete what is ours, but for what is to be kept; the module's result. Raises ClusterError."""
        kept = set(keep)
        namespace = self.client.find(f"/api/v1/namespaces/{self.namespace}", "get on namespaces")
        annotations = ((namespace or {}).get("metadata") or {}).get("annotations") or {}
        names: dict[str, str] = {}
        marked = self.client.get(path(self.namespace), RIGHTS, labelSelector=f"{MANAGED_BY}={MANAGER}")["items"]
        for secret in marked:
            names[secret["metadata"]["name"]] = "marked as ours"
        if annotations.get(CREATED) == "true":
            for name in NAMES:
                if name not in names and self._read(name):
                    names[name] = "in a namespace of ours"
        results = []
        for name in sorted(names):
            delete = name not in kept
            if delete and not check_mode:
                try:
                    self.client.request("DELETE", path(self.namespace, name), rights=RIGHTS)
                except ClusterError as failure:
                    if failure.status != 404:
                        raise
            results.append(_entry(name, "delete" if delete else "none"))
        gone = [one["name"] for one in results if one["action"] == "delete"]
        return {
            "changed": bool(gone),
            "msg": f"Secrets in {self.namespace}: {len(gone)} deleted, {len(results) - len(gone)} kept"
            + (" (check mode)" if check_mode else ""),
            "results": results,
            "checksums": {},
            "notes": [],
            "kept": [],
        }

    def _refuse_loss(
        self, found: Values, running: Mapping[str, str], wish: Wish, volumes: list[str], deployed: bool
    ) -> None:
        given = {
            option
            for option, (name, key) in {
                "password": (DATABASE, "password"),
                "master_key": (LITELLM, MASTER),
                "salt_key": (LITELLM, SALT),
            }.items()
            if wish.value(name, key)
        }
        # A LiteLLM that runs without any key that is known here is one all the same.
        known = running or ({"": ""} if deployed else {})
        sentences = lost(found, known, given, () if wish.external else volumes)
        sentences += filter(None, [overwritten(found, wish, volumes)])
        if sentences:
            raise SecretsError(f"Nothing was written in {self.namespace}. " + ". ".join(sentences))

    def _read(self, name: str) -> dict[str, Any] | None:
        return self.client.find(path(self.namespace, name), RIGHTS)

    def _remember(self, places: Iterable[Mapping[str, str]]) -> None:
        for place in places:
            self.values.update(value for key, value in place.items() if value and key not in PUBLIC)

    def _difference(self, name: str, secret: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> dict[str, Any]:
        there = decoded(secret)
        labels = ((secret or {}).get("metadata") or {}).get("labels") or {}
        created = sorted(key for key in wanted if key not in there)
        updated = sorted(key for key in wanted if key in there and there[key] != wanted[key])
        adopted = secret is not None and not LABELS.items() <= labels.items()
        action = "create" if secret is None else "update" if created or updated or adopted else "none"
        return _entry(name, action, created, updated, adopted)

    def _write(
        self,
        before: Mapping[str, dict[str, Any] | None],
        results: Iterable[dict[str, Any]],
        wanted: Values,
        written: dict[str, dict[str, Any]],
    ) -> str:
        """Write what differs; the name of a Secret that somebody else wrote meanwhile, or ""."""
        for one in results:
            name = one["name"]
            if one["action"] == "none":
                continue
            keys = {*one["created"], *one["updated"]}
            data = {key: base64.b64encode(wanted[name][key].encode()).decode() for key in sorted(keys)}
            body: dict[str, Any] = {"metadata": {"name": name, "labels": LABELS}, "data": data}
            there = before[name]
            try:
                if there is None:
                    body |= {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}
                    method, place, kind = "POST", path(self.namespace), "application/json"
                else:
                    # Refused where it isn't the one that was read: two runs at once must agree on one value.
                    body["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
                    method, place, kind = "PATCH", path(self.namespace, name), "application/merge-patch+json"
                self.client.request(
                    method, place, body, query={"fieldManager": MANAGER}, content_type=kind, rights=RIGHTS
                )
            except ClusterError as failure:
                if failure.status == 409:
                    return str(name)
                if failure.status == 404:
                    raise ClusterError(
                        f"Write Secret {name} in {self.namespace}", failure.words, "Make the namespace first", 404
                    ) from None
                raise
            written[name] = one
        return ""


_DONE = {"create": "created", "update": "updated", "delete": "deleted"}


def _entry(
    name: str, action: str, created: Iterable[str] = (), updated: Iterable[str] = (), adopted: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "action": action,
        "changed": action != "none",
        "created": list(created),
        "updated": list(updated),
        "adopted": adopted,
    }
