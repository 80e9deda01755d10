"""Writing to volume servers over HTTP, as SeaweedFS's clients do: with a token and by TLS where they want that.

Read from security.toml are `[jwt.signing] key` and `[https.client] enabled, ca, cert, key`, as SeaweedFS reads them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import time
from dataclasses import dataclass

from weed_cluster import http
from weed_cluster.address import Address
from weed_core.errors import HttpFailed

TOKEN_SECONDS = 60
"""For how long a token of ours is good."""


@dataclass(frozen=True)
class Uploads:
    """How files are written. `key` signs tokens, "" for none; `tls` names ca, cert and key, None for plain HTTP."""

    key: str = ""
    tls: tuple[str, str, str] | None = None

    def put(self, address: Address, fid: str, content: bytes) -> http.Page:
        """Write a file to one server; return its answer, whatever it is. HttpFailed where none came."""
        headers = {"Content-Type": "application/octet-stream"}
        if self.key:
            headers["Authorization"] = f"BEARER {token(self.key, fid)}"
        scheme = "http" if self.tls is None else "https"
        return http.put(address, f"/{fid}", content, headers, scheme=scheme, context=self._context())

    def _context(self) -> ssl.SSLContext | None:
        if self.tls is None:
            return None
        ca, certificate, key = self.tls
        try:
            context = ssl.create_default_context(cafile=ca or None)
            if certificate:
                context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            raise HttpFailed(f"[https.client] of security.toml cannot be used: {error}") from None
        return context


def token(key: str, fid: str) -> str:
    """A token that lets one file be written."""
    claims = {"fid": fid, "exp": int(time.time()) + TOKEN_SECONDS}
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(map(_base64, parts))
    return (signed + b"." + _base64(hmac.new(key.encode(), signed, hashlib.sha256).digest())).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
