# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes cluster without containers: etcd, the API server and its controllers, for real, and a fake node."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import platform
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from processes import Child, free_port, run, start, stop
from progress import Events, StackError
from provision import Cache, interpreter_tag, make_venv
from settings import HERE, Settings

SOURCES = HERE / "k8s"
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager")
BUILD_HINT = (
    "set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kube-controller-manager, or put them on PATH; "
    "they can be built here on Debian 12 only, by {}. ALLOW_MISSING=cluster goes on without a cluster"
)
#: Controllers of what this cluster hasn't: real nodes, a cloud, certificates that are asked for
CONTROLLERS = (
    "*,-nodeipam,-nodelifecycle,-cloud-node-lifecycle,-route,-service,-ttl,-attachdetach,-persistentvolume-expander,"
    "-csrsigning,-csrapproving,-csrcleaner,-bootstrapsigner,-tokencleaner"
)
#: Ten on an idle machine; others may be at work on this one.
START_SECONDS = 180
#: With this version some options went that older ones need
MODERN = (1, 24)


@dataclass(frozen=True)
class Programs:
    """Where the programs are, and the API server's version, such as (1, 20)."""

    etcd: Path
    apiserver: Path
    controllers: Path
    kubectl: Path | None
    version: tuple[int, int]


def find_programs(cache: Cache, env: Mapping[str, str] | None = None) -> Programs:
    """From KUBEBUILDER_ASSETS, else on PATH, else built. Raises StackError."""
    env = os.environ if env is None else env
    found = programs_on(places(env))
    if found:
        return found
    build = SOURCES / "build.sh"
    hint = BUILD_HINT.format(build.relative_to(HERE.parents[1]))

    def build_them(folder: Path, log: Path) -> None:
        command: list[str | Path] = ["nice", "-n", "19", "bash", build, folder]
        run("building Kubernetes from Debian's packages", command, log=log, hint=hint)

    folder = cache.entry(
        "kubernetes",
        made_from(),
        f"Kubernetes 1.20 from Debian's packages, about four minutes{lacking(env)}",
        build_them,
    )
    found = programs_on(str(folder))
    if not found:
        raise StackError(f"the programs of the cluster in {folder} do not run", hint=hint)
    return found


def places(env: Mapping[str, str]) -> str:
    """Where programs may be that nobody has to build, as a PATH."""
    return os.pathsep.join(part for part in (env.get("KUBEBUILDER_ASSETS"), env.get("PATH", os.defpath)) if part)


def lacking(env: Mapping[str, str]) -> str:
    """Why KUBEBUILDER_ASSETS, where it is given, does not do: envtest's own has no controllers, for example."""
    folder = env.get("KUBEBUILDER_ASSETS")
    missing = [name for name in SERVERS if not shutil.which(name, path=folder or "")]
    if not folder:
        return ""
    return f"; KUBEBUILDER_ASSETS ({folder}) has {'no ' + ', '.join(missing) if missing else 'other versions of them'}"


def made_from() -> str:
    """What programs that are built here depend on."""
    texts = [(SOURCES / name).read_text() for name in ("build.sh", "cronjob-batch-v1.patch")]
    return "\n".join([*texts, platform.machine()])


def has_to_be_built(cache: Cache) -> bool:
    """Whether finding the programs would take minutes."""
    return not cache.has("kubernetes", made_from()) and not programs_on(places(os.environ))


def programs_on(path: str) -> Programs | None:
    """All that a cluster needs, in versions that go together, or None."""
    etcd, apiserver, controllers = (shutil.which(name, path=path) for name in SERVERS)
    if not (etcd and apiserver and controllers):
        return None
    version = kubernetes_version(apiserver)
    if not version or kubernetes_version(controllers) != version:
        return None
    kubectl = shutil.which("kubectl", path=path)
    return Programs(Path(etcd), Path(apiserver), Path(controllers), Path(kubectl) if kubectl else None, version)


def kubernetes_version(program: str) -> tuple[int, int] | None:
    """The version a server says it has, such as (1, 20); None where it doesn't run."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"v(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def node_python(cache: Cache) -> Path:
    """The Python that the fake node runs with."""
    pins = HERE / "requirements" / "cluster.txt"

    def build(folder: Path, log: Path) -> None:
        make_venv(folder, log, "-r", str(pins))

    venv = cache.entry("cluster", pins.read_text() + interpreter_tag(), "what the fake node needs", build)
    return venv / "bin" / "python"


def write_private(path: Path, text: str) -> None:
    """Never readable by others, not even between creation and chmod; never half written."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    temporary.replace(path)


class Cluster:
    """One cluster: ``start()``, then ``join()``, then ``wait()``; what else has to start can do so in between."""

    def __init__(
        self,
        programs: Programs,
        python: Path,
        home: Path,
        logs: Path,
        *,
        openshift: bool,
        children: list[Child],
        path: str = "",
        kubeconfig: Path | None = None,
    ) -> None:
        self._programs = programs
        self._python = python
        self._home = home
        self._logs = logs
        self._openshift = openshift
        #: The owner's, who stops whatever is in it
        self._owned = children
        self._path = path
        self.kubeconfig = kubeconfig or home / "kubeconfig"
        self._tokens = {name: secrets.token_urlsafe(24) for name in ("admin", "controllers", "node")}
        self._attempts = 0
        self._children: dict[str, Child] = {}
        self.url = ""

    @property
    def _certs(self) -> Path:
        return self._home / "certs"

    @property
    def authority(self) -> Path:
        """The certificate that the API server's is signed with."""
        return self._certs / "ca.crt"

    def start(self) -> None:
        """Certificates, etcd and the API server; they are on their way when this returns."""
        if not self._attempts:
            shutil.rmtree(self._home, ignore_errors=True)
            self._certs.mkdir(parents=True)
            # They are private, whatever the caller's umask.
            self._home.chmod(0o700)
            log = self._logs / "certificates.log"
            run("making the cluster's certificates", [self._python, HERE / "certificates.py", self._certs], log=log)
            lines = [f'{token},{name},{name},"system:masters"\n' for name, token in self._tokens.items()]
            write_private(self._home / "tokens.csv", "".join(lines))
            self.forward({})
        self._attempts += 1
        shutil.rmtree(self._home / "etcd", ignore_errors=True)
        client, peer, port = (free_port() for _number in range(3))
        self.url = f"https://127.0.0.1:{port}"
        trusted, certificate, key = (self._certs / name for name in ("ca.crt", "node.crt", "node.key"))
        self._begin(
            "etcd",
            [
                self._programs.etcd,
                f"--data-dir={self._home / 'etcd'}",
                "--unsafe-no-fsync=true",
                "--log-level=warn",
                f"--listen-client-urls=https://127.0.0.1:{client}",
                f"--advertise-client-urls=https://127.0.0.1:{client}",
                f"--listen-peer-urls=https://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=https://127.0.0.1:{peer}",
                f"--initial-cluster=default=https://127.0.0.1:{peer}",
                *(
                    f"--{prefix}{name}"
                    for prefix in ("", "peer-")
                    for name in (
                        f"cert-file={certificate}",
                        f"key-file={key}",
                        "client-cert-auth=true",
                        f"trusted-ca-file={trusted}",
                    )
                ),
            ],
        )
        self._begin(
            "kube-apiserver",
            [
                self._programs.apiserver,
                f"--etcd-servers=https://127.0.0.1:{client}",
                f"--etcd-cafile={trusted}",
                f"--etcd-certfile={certificate}",
                f"--etcd-keyfile={key}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                *([] if self._programs.version >= MODERN else ["--insecure-port=0"]),
                f"--tls-cert-file={certificate}",
                f"--tls-private-key-file={key}",
                # exec and port-forward: only the API server may ask the node for them
                f"--kubelet-certificate-authority={trusted}",
                f"--kubelet-client-certificate={certificate}",
                f"--kubelet-client-key={key}",
                f"--token-auth-file={self._home / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self._certs / 'sa.key'}",
                f"--service-account-signing-key-file={self._certs / 'sa.key'}",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--allow-privileged=true",
                "--profiling=false",
            ],
        )

    def _begin(self, name: str, command: list[str | Path]) -> None:
        # As for the proxy, nothing of ours is passed on.
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self._home), "NO_PROXY": "*"}
        # Nothing of what the servers keep is wanted any more when they are stopped, and politely it takes seconds.
        how = signal.SIGTERM if name == "fakenode" else signal.SIGKILL
        child = start(name, command, log=self._logs / f"{name}.log", env=env, cwd=self._home, stop_signal=how)
        self._children[name] = child
        self._owned.append(child)

    def forward(self, places: Mapping[int, str]) -> None:
        """Say where a pod's ports really are, such as {5432: "127.0.0.1:40123"}; may be told at any time."""
        text = json.dumps({str(port): place for port, place in places.items()})
        fresh = self._home / "forwards.json.new"
        fresh.write_text(text)
        fresh.replace(self._home / "forwards.json")

    def join(self) -> None:
        """Wait for the API server, then start the controllers and the node. Raises StackError."""
        self._wait(("etcd", "kube-apiserver"), lambda: api_ready(self.url, self.authority, self._tokens["admin"]))
        for name, path in (
            ("admin", self.kubeconfig),
            ("controllers", self._home / "controllers.kubeconfig"),
            ("node", self._home / "node.kubeconfig"),
        ):
            write_private(path, self._kubeconfig_text(name))
        self._begin(
            "kube-controller-manager",
            [
                self._programs.controllers,
                f"--kubeconfig={self._home / 'controllers.kubeconfig'}",
                f"--service-account-private-key-file={self._certs / 'sa.key'}",
                f"--root-ca-file={self._certs / 'ca.crt'}",
                "--leader-elect=false",
                f"--controllers={CONTROLLERS}",
                *([] if self._programs.version >= MODERN else ["--port=0"]),
                "--secure-port=0",
                "--pvclaimbinder-sync-period=2s",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
                "--profiling=false",
            ],
        )
        files = [SOURCES / "storage.yaml", *([SOURCES / "openshift.yaml"] if self._openshift else [])]
        self._begin(
            "fakenode",
            [
                self._python,
                "-u",
                HERE / "fakenode.py",
                f"--kubeconfig={self._home / 'node.kubeconfig'}",
                f"--home={self._home}",
                f"--forwards={self._home / 'forwards.json'}",
                f"--path={self._path}",
                *(f"--create={file}" for file in files),
                *(["--openshift"] if self._openshift else []),
            ],
        )

    def wait(self) -> None:
        """Until the node takes pods. Raises StackError."""
        self._wait(tuple(self._children), (self._home / "fakenode.ready").exists)

    def _wait(self, names: tuple[str, ...], ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for name in names:
                child = self._children[name]
                if child.exit_status() is None:
                    continue
                what = f"{name} ended with status {child.exit_status()} while it started"
                error = StackError(what, log=child.log, hint="see its log")
                taken = any("address already in use" in line.lower() for line in error.tail)
                if not taken or self._attempts >= 3 or name not in ("etcd", "kube-apiserver"):
                    raise error
                for one in names:
                    stop([self._children[one]])
                    self._owned.remove(self._children[one])
                self.start()
                break
            if ready():
                return
            time.sleep(0.05)
        hint = "see its log; a machine under heavy load needs another try"
        raise StackError(
            f"the cluster was not ready within {START_SECONDS} s", log=self._children[names[-1]].log, hint=hint
        )

    def _kubeconfig_text(self, user: str) -> str:
        authority = base64.b64encode((self._certs / "ca.crt").read_bytes()).decode()
        return (
            "apiVersion: v1\n"
            "kind: Config\n"
            "clusters:\n"
            f"- name: stack\n  cluster:\n    server: {self.url}\n    certificate-authority-data: {authority}\n"
            f"users:\n- name: {user}\n  user:\n    token: {self._tokens[user]}\n"
            f"contexts:\n- name: stack\n  context:\n    cluster: stack\n    user: {user}\n"
            "current-context: stack\n"
        )


def api_ready(url: str, authority: Path, token: str = "") -> bool:
    """Whether an API server takes requests; it tells everybody."""
    context = ssl.create_default_context(cafile=str(authority))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{url}/readyz", headers=headers)
    try:
        with opener.open(request, timeout=5) as answer:
            return bool(answer.read() == b"ok")
    except OSError:  # HTTP's errors are among them
        return False


@contextlib.contextmanager
def bare(
    folder: Path | None = None, *, forwards: Mapping[int, str] | None = None, openshift: bool = False
) -> Iterator[Path]:
    """A cluster of a test's own, of plain Kubernetes unless it shall have OpenShift's kinds: its admin's kubeconfig.

    It takes four to nine seconds. ``forwards`` says where a pod's ports are; without it none are forwarded. For the
    main thread only: the processes end with the thread that started them.
    """
    settings = Settings.from_env()
    with contextlib.ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="rhpds-litemaas-", dir=folder)))
        settings = replace(settings, directory=home)
        cache = Cache(settings, Events(io.StringIO()))
        children: list[Child] = []
        closing.callback(stop, children)
        cluster = Cluster(
            find_programs(cache),
            node_python(cache),
            home / "cluster",
            home / "logs",
            openshift=openshift,
            children=children,
        )
        cluster.start()
        cluster.forward(forwards or {})
        cluster.join()
        cluster.wait()
        yield cluster.kubeconfig
