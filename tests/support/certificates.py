"""Makes certificates for tests, with the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path


def openssl(*arguments: object) -> None:
    """Run the openssl command; AssertionError with what it said where it fails."""
    words = ["openssl", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


class Authority:
    """A certificate authority of one test, with its files in one directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.ca = directory / f"{name}.crt"
        self._key = directory / f"{name}.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
            "-subj", f"/CN=test {name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", self._key, "-out", self.ca,
        )  # fmt: skip

    def issue(
        self, name: str, san: str = "", usage: str = "serverAuth,clientAuth", days: int = 30
    ) -> tuple[Path, Path]:
        """Issue a certificate; return it and its key. `san` is like "DNS:admin.example,IP:10.0.0.1"."""
        certificate, key, request, extensions = (
            self._directory / f"{name}.{end}" for end in ("crt", "key", "csr", "ext")
        )
        lines = ["basicConstraints=CA:FALSE", f"extendedKeyUsage={usage}"] + ([f"subjectAltName={san}"] if san else [])
        extensions.write_text("\n".join(lines))
        openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", key, "-out", request,
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
            "-days", days, "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key
