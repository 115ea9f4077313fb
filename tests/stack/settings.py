# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was asked for, read from the environment once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from progress import StackError

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
DEFAULT_VERSION = "1.81.14"


def known_versions() -> list[str]:
    """The LiteLLM versions whose dependencies are pinned here."""
    suffix = ".constraints.txt"
    return sorted(p.name[len("litellm-") : -len(suffix)] for p in (HERE / "requirements").glob(f"litellm-*{suffix}"))


@dataclass(frozen=True)
class Settings:
    version: str
    directory: Path
    replicas: int
    cache: Path
    wheels_only: bool
    keep_data: bool
    #: What stack and tests may go without where it can't be had: "cluster", "browser"
    allow_missing: frozenset[str]

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        env = os.environ if env is None else env
        version = env.get("LITELLM_VERSION") or DEFAULT_VERSION
        if version not in known_versions():
            raise StackError(
                f"LITELLM_VERSION={version} is not pinned here",
                hint=f"choose one of {', '.join(known_versions())}, or pin it as tests/stack/README.md describes",
            )
        replicas = env.get("STACK_REPLICAS") or "1"
        if not replicas.isdigit() or not 1 <= int(replicas) <= 4:
            raise StackError(
                f"STACK_REPLICAS={replicas} is not a number from 1 to 4", hint="leave it out for one proxy"
            )
        allowed = frozenset((env.get("ALLOW_MISSING") or "").replace(",", " ").split())
        if allowed - {"cluster", "browser"}:
            raise StackError(
                f"ALLOW_MISSING={env['ALLOW_MISSING']} names what the stack can't go without",
                hint="cluster and browser are all that it can be",
            )
        return cls(
            version=version,
            directory=Path(env.get("STACK_DIR") or CHECKOUT / ".stack").absolute(),
            replicas=int(replicas),
            cache=_cache_directory(env),
            wheels_only=env.get("STACK_NO_SYSTEM") == "1",
            keep_data=env.get("STACK_KEEP_DATA") == "1",
            allow_missing=allowed,
        )

    @property
    def lock_file(self) -> Path:
        return self.directory / "stack.lock"

    @property
    def state_file(self) -> Path:
        return self.directory / "state.json"

    @property
    def env_file(self) -> Path:
        return self.directory / "env"

    @property
    def secrets_file(self) -> Path:
        return self.directory / "secrets.json"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def cluster(self) -> Path:
        """Where the cluster's certificates, tokens and files are."""
        return self.directory / "run" / "cluster"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"


def _cache_directory(env: Mapping[str, str]) -> Path:
    if env.get("RHPDS_LITEMAAS_CACHE"):
        return Path(env["RHPDS_LITEMAAS_CACHE"]).absolute()
    base = env.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "rhpds-litemaas"
