# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates of one test cluster: python certificates.py FOLDER

``ca.crt``; ``node.crt`` and ``node.key``, with which etcd, the API server and the fake node serve and know each other;
``sa.key``, which signs the tokens of ServiceAccounts. All of them are as good for a day as the cluster.
"""

from __future__ import annotations

import datetime
import ipaddress
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
ADDRESSES = ("127.0.0.1", "10.96.0.1")
VALID = datetime.timedelta(days=30)


def new_key(path: Path | None = None) -> ec.EllipticCurvePrivateKey:
    """A key, written to a file that only its owner can read."""
    key = ec.generate_private_key(ec.SECP256R1())
    if path:
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
    return key


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def usage(*, authority: bool) -> x509.KeyUsage:
    """What Python 3.13 and newer insist on: an authority signs certificates, others sign handshakes."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def make(folder: Path) -> None:
    """Write everything into a folder."""
    began = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    ca_key, node_key = new_key(), new_key(folder / "node.key")
    new_key(folder / "sa.key")

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("the test cluster"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(began)
            .not_valid_after(began + VALID)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    authority = (
        builder("the test cluster", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(authority=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    places: list[x509.GeneralName] = [x509.DNSName(one) for one in NAMES]
    places += [x509.IPAddress(ipaddress.ip_address(one)) for one in ADDRESSES]
    node = (
        builder("node", node_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    for file, certificate in (("ca.crt", authority), ("node.crt", node)):
        (folder / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
