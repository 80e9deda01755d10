"""TLS towards admin, masters and volume servers, configured where SeaweedFS configures it.

Read are `[grpc] ca` and `[grpc.worker] cert, key, client_cert, client_key` of security.toml, and WEED_* environment
variables over them (WEED_GRPC_CA, WEED_GRPC_WORKER_CERT, ...). Nothing configured means plaintext, said loudly. Half
configured or unusable is refused with the reason: SeaweedFS would fall back to plaintext without a word.

SeaweedFS checks that a server's certificate comes from the CA, but not which host it names; clusters live on addresses
that no certificate names. gRPC for Python always checks the name. So a server is asked for its certificate first, the
chain is verified, and a name that the certificate does carry is what gRPC is told to expect. `server_name` in
[grpc.worker] (WEED_GRPC_WORKER_SERVER_NAME), which is ours alone, fixes that name for all servers instead.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import toml

from weed_cluster.address import Address
from weed_cluster.bounded import Dial, within
from weed_cluster.uploads import Uploads
from weed_core.errors import ConfigError, ServerFailed
from weed_core.files import read_named

FILE = "security.toml"
KEYS = ("ca", "cert", "key", "client_cert", "client_key", "server_name")
"""What [grpc.worker] may hold; its ca goes before that of [grpc], and allowed_commonNames concerns servers only."""

PLAINTEXT = (
    "no TLS is configured: everything this worker says and hears crosses the network in the clear, and anyone there can"
    " give it orders; set [grpc] ca and [grpc.worker] cert and key in security.toml"
)

LARGEST = 1 << 20
"""Bytes of a configuration file or a certificate."""

PROBE_SECONDS = 10.0
"""How long a server may take to show its certificate: links with a round trip of two seconds exist."""

# OpenSSL verification codes (X509_V_ERR_*) that say: signed by somebody else than this CA.
_OTHER_ISSUER = (2, 18, 19, 20, 21)


@dataclass(frozen=True)
class _Material:
    """What TLS needs, as read from the files at one moment."""

    ca: bytes
    certificate: bytes
    key: bytes


class Security:
    """How to talk to servers: in the clear, or with this certificate."""

    def __init__(
        self, config: Mapping[str, str], source: str, warnings: tuple[str, ...] = (), uploads: Uploads | None = None
    ) -> None:
        self.uploads = uploads or Uploads()
        """How files are written to volume servers by HTTP."""
        self.warnings = warnings
        """Sentences that an operator should see at the start."""
        self._config = dict(config)
        self._source = source
        self._names: dict[Address, str] = {}
        self._expires = ""
        self.ends = 0.0
        """When our certificate ends, in unix seconds; 0 where there is none, or that is not known."""
        self._material: _Material | None = None
        self._find: Callable[[], Security] | None = None  # looks for the configuration anew
        if config.get("ca"):
            self._read_files()

    @property
    def is_on(self) -> bool:
        """Whether connections are secured."""
        return self._material is not None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a channel is made with; None for plaintext."""
        if self._material is None:
            return None
        return grpc.ssl_channel_credentials(self._material.ca, self._material.key, self._material.certificate)

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """What this worker serves with: only those are answered that show a certificate of our CA. None: plaintext."""
        if self._material is None:
            return None
        pair = (self._material.key, self._material.certificate)
        return grpc.ssl_server_credentials([pair], self._material.ca, require_client_auth=True)

    def options(self, address: Address) -> list[tuple[str, Any]]:
        """What a channel to this server must be told besides.

        Asks the server for its certificate where that has not been done yet. Raises ServerFailed where it shows none,
        or one that the CA has not signed.
        """
        if self._material is None:
            return []
        name = self._config.get("server_name") or self._names.get(address)
        if not name:
            name = self._names[address] = _name_of(address, self._context())
        return [("grpc.ssl_target_name_override", name)]

    def reload(self) -> None:
        """Read security.toml and what it names again; raise ConfigError, and keep what was, where they cannot be used.

        TLS is never given up so: a worker that began with it goes on with it until it is started anew.
        """
        if self._find is None:
            self._read_files()
            return
        fresh = self._find()
        if self.is_on and not fresh.is_on:
            raise ConfigError(f"{fresh._source}: no certificates are configured there any more")
        self._config, self._source, self._material = fresh._config, fresh._source, fresh._material
        self._expires, self.ends = fresh._expires, fresh.ends
        self._names.clear()

    def _read_files(self) -> None:
        if not self._config.get("ca"):
            return
        try:
            material = _Material(*(_read(self._config, key) for key in ("ca", "cert", "key")))
            shown = _check(self._config)
        except ConfigError as error:
            raise ConfigError(f"{self._source}: {error}") from None
        self._material = material
        self._expires = " ".join(shown.split()[:2] + shown.split()[3:4])
        self.ends = float(ssl.cert_time_to_seconds(shown)) if shown else 0.0
        self._names.clear()

    def describe(self) -> str:
        """Say in one line how connections are secured."""
        if self._material is None:
            return "plaintext"
        name = self._config.get("server_name")
        named = f"servers must be {name}" if name else "servers are known by the CA, not by name"
        valid = f"valid until {self._expires}" if self._expires else "signed by another CA than ours"
        return f"mTLS with {self._config['cert']} ({valid}), {named}, from {self._source}"

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self._config["ca"])
        context.load_cert_chain(self._config["cert"], self._config["key"], password="")
        context.set_alpn_protocols(["h2"])
        return context


def load(config_dir: Path | None = None, fallback: bool = False, environ: Mapping[str, str] = os.environ) -> Security:
    """Find and check the configuration; raise ConfigError naming the file and the key that cannot be used.

    With `fallback` what cannot be used means plaintext and a warning, as SeaweedFS has it.
    """
    here = Path.cwd()
    try:
        security = _load(config_dir, environ, here)
    except ConfigError as error:
        if not fallback:
            raise
        security = Security({}, "", (f"TLS is off although it is configured: {error}", PLAINTEXT))
    security._find = lambda: _load(config_dir, environ, here)
    return security


def _load(config_dir: Path | None, environ: Mapping[str, str], here: Path) -> Security:
    path = _find(config_dir, environ, here)
    tables = _parse(path) if path else {}
    worker = _table(_table(tables, "grpc"), "worker")
    warnings = [
        f"{path}: [grpc.worker] has no key {key!r}; known are {', '.join(KEYS)}"
        for key in worker
        if key not in KEYS and key != "allowed_commonNames"
    ]
    sources = [str(path)] if path else []
    found: dict[str, str] = {}
    for key, table, variable in [
        ("ca", _table(tables, "grpc"), "WEED_GRPC_CA"),
        *((key, worker, f"WEED_GRPC_WORKER_{key.upper()}") for key in KEYS),
    ]:
        if environ.get(variable):
            found[key] = environ[variable]
            sources.append(variable)
        elif table.get(key):
            found[key] = str(table[key])
    where = " and ".join(sources) or FILE
    uploads = _uploads(tables, environ)
    if found.get("client_cert") and found.get("client_key"):
        found["cert"], found["key"] = found["client_cert"], found["client_key"]
    elif found.get("client_cert") or found.get("client_key"):
        warnings.append(f"{where}: client_cert and client_key go together; cert and key are used instead")
    config: dict[str, str] = {key: found[key] for key in found if key in ("ca", "cert", "key")}
    if not config:
        return Security({}, where, (*warnings, PLAINTEXT), uploads)
    for key in ("ca", "cert", "key"):
        if key not in config:
            section = "[grpc]" if key == "ca" else "[grpc.worker]"
            raise ConfigError(
                f"{where}: {section} {key} is not set, but {' and '.join(config)} set; TLS needs all three"
            )
    # Relative paths are the working directory's, as SeaweedFS has it; fixed now, for later reloads.
    config = {key: os.path.join(here, name) for key, name in config.items()}
    if found.get("server_name"):
        config["server_name"] = found["server_name"]
    return Security(config, where, tuple(warnings), uploads)


def _uploads(tables: Mapping[str, Any], environ: Mapping[str, str]) -> Uploads:
    signing = _table(_table(tables, "jwt"), "signing")
    client = _table(_table(tables, "https"), "client")

    def named(table: Mapping[str, Any], key: str, variable: str) -> str:
        return str(environ.get(f"WEED_{variable}_{key.upper()}") or table.get(key, ""))

    enabled = named(client, "enabled", "HTTPS_CLIENT").lower() in ("true", "1")
    files = tuple(named(client, key, "HTTPS_CLIENT") for key in ("ca", "cert", "key"))
    ca, certificate, key = (os.path.abspath(name) if name else "" for name in files)
    return Uploads(named(signing, "key", "JWT_SIGNING"), (ca, certificate, key) if enabled else None)


def _find(config_dir: Path | None, environ: Mapping[str, str], here: Path) -> Path | None:
    """The file that counts: the one in the directory that was named, or the first where SeaweedFS looks for it.

    A link that leads nowhere is there, and cannot be read: passing over it would mean plaintext.
    """
    if config_dir:
        if not os.path.lexists(config_dir / FILE):
            what = f"holds no {FILE}" if config_dir.is_dir() else "is no directory"
            raise ConfigError(f"-config_dir={config_dir} {what}; it is not looked for elsewhere when it is named")
        return config_dir / FILE
    places = [here, Path("/usr/local/etc/seaweedfs"), Path("/etc/seaweedfs")]
    if environ.get("HOME"):
        places.insert(1, Path(environ["HOME"], ".seaweedfs"))
    return next((place / FILE for place in places if os.path.lexists(place / FILE)), None)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return toml.loads(read_named(path, LARGEST).decode())
    except (OSError, UnicodeDecodeError, toml.TomlDecodeError, IndexError, RecursionError) as error:
        # toml trips over some typos with an IndexError
        raise ConfigError(f"{path} cannot be read: {error}") from None


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = tables.get(name, {})
    return table if isinstance(table, Mapping) else {}


def _read(config: Mapping[str, str], key: str) -> bytes:
    try:
        content = read_named(Path(config[key]), LARGEST)
    except OSError as error:
        raise ConfigError(f"{key} = {config[key]!r} cannot be read: {error.strerror}") from None
    if b"-----BEGIN " not in content:
        raise ConfigError(f"{key} = {config[key]!r} holds no PEM")
    return content


def _check(config: Mapping[str, str]) -> str:
    """Try the certificate out on ourselves; return when it ends, raise ConfigError where servers would refuse it.

    The time is as OpenSSL writes it, "" for a certificate that another CA has signed: servers may trust that one, so it
    is not refused.
    """
    ca, certificate, key = config["ca"], config["cert"], config["key"]
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.check_hostname = False
    ours.verify_mode = ssl.CERT_NONE
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.verify_mode = ssl.CERT_REQUIRED
    try:
        theirs.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigError(f"ca = {ca!r} is no certificate: {error.reason}") from None
    try:
        for context in (ours, theirs):
            context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ConfigError(
            f"key = {key!r} does not fit cert = {certificate!r}, or is encrypted, or one is no PEM: {error.reason}"
        ) from None
    try:
        return _handshake(ours, theirs)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OTHER_ISSUER:
            return ""
        raise ConfigError(f"cert = {certificate!r} cannot be used: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ConfigError(f"cert = {certificate!r} cannot be used: {error.reason}") from None


def _handshake(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> str:
    """Shake hands in memory, the far side verifying our certificate; return when it ends."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(to_client, to_server)
    server = theirs.wrap_bio(to_server, to_client, server_side=True)
    todo = [client, server]
    while todo:
        end = todo.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            todo.append(end)
    shown: Any = server.getpeercert()
    return str(shown["notAfter"])


def _name_of(address: Address, context: ssl.SSLContext) -> str:
    """Verify a server's certificate and return a name it carries: the host's own where it does."""
    host = address.host.strip("[]")

    def look(dial: Dial) -> Any:
        with closing(context.wrap_socket(dial(), server_hostname=host)) as connection:
            return connection.getpeercert()

    try:
        shown = within(PROBE_SECONDS, address, address.grpc_port, look)
    except ssl.SSLCertVerificationError as error:
        detail = f"its certificate is not trusted: {error.verify_message}"
        raise ServerFailed(str(address), "the TLS handshake", "UNAVAILABLE", detail) from None
    except ssl.SSLError as error:
        detail = f"it speaks no TLS, or refuses our certificate: {error.reason}"
        raise ServerFailed(str(address), "the TLS handshake", "UNAVAILABLE", detail) from None
    except OSError as error:
        raise ServerFailed(str(address), "the connection", "UNAVAILABLE", str(error)) from None
    carried = shown.get("subjectAltName", ())
    names = [name for wanted in ("DNS", "IP Address") for kind, name in carried if kind == wanted]
    if not names:
        names = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    if host in names or not names:
        return host
    return str(names[0]).replace("*", "any", 1)
