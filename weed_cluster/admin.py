"""What an admin server tells over HTTP: its dialect, its gRPC port, its masters, and the pages behind its login."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weed_cluster import http
from weed_cluster.address import GRPC_OFFSET, Address
from weed_core.errors import AdminRefused, BadTask, ConfigError, HttpFailed
from weed_core.files import read_named

USER, PASSWORD = "WEED_WORKER_ADMIN_USER", "WEED_WORKER_ADMIN_PASSWORD"
"""Variables of the environment that hold the login; the command line, which others on the host can read, does not."""

LARGEST_LOGIN = 4096  # bytes of a file with one


@dataclass(frozen=True)
class Login:
    """A user of an admin server that asks for one; `source` says where it comes from."""

    user: str
    password: str = field(repr=False)
    source: str


_logins: dict[Address, Login] = {}
_cookies: dict[Address, str] = {}


def login_of(file: Path | None, environ: Mapping[str, str] = os.environ) -> Login | None:
    """The login in a file, as user:password, else in the environment; None where neither has one. ConfigError."""
    if file is not None:
        try:
            text = read_named(file, LARGEST_LOGIN).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"-adminLogin={file} cannot be read: {error}") from None
        user, colon, password = text.partition(":")
        if not colon or not user or "\n" in text:
            raise ConfigError(f"-adminLogin={file} holds no login; one line, user:password, is expected")
        return Login(user, password, str(file))
    if password := environ.get(PASSWORD, ""):
        return Login(environ.get(USER) or "admin", password, PASSWORD)
    return None


def sign_in_as(login: Login | None, admin: Address) -> None:
    """From now on sign in so where this admin, and no other server, asks for a user; None: not any more."""
    _cookies.pop(admin, None)
    _logins.pop(admin, None)
    if login is not None:
        _logins[admin] = login


@dataclass(frozen=True)
class Probe:
    """The answer: `dialect` is "plugin", "classic", or "" where the admin did not tell."""

    dialect: str
    grpc: Address


def probe(admin: Address) -> Probe:
    """Ask an admin for its dialect and gRPC port; an address that names its gRPC port keeps it.

    Admins before the plugin dialect do not know the page and say 404.
    """
    status, answer = get(admin, "/api/plugin/status")
    port = answer.get("worker_grpc_port", 0) if isinstance(answer, dict) else 0
    named = admin.grpc_port != admin.port + GRPC_OFFSET
    where = replace(admin, grpc_port=port) if type(port) is int and 0 < port < 65536 and not named else admin
    if status == 200 and isinstance(answer, dict):
        return Probe("plugin" if answer.get("enabled", True) else "classic", where)
    return Probe("classic" if status == 404 else "", where)


def masters_of(admin: Address) -> tuple[Address, ...]:
    """The master that an admin works with; () where it does not tell (an admin with a password does not).

    Its list of masters is no use: admins before 4.44 answer with a constant there.
    """
    _status, answer = get(admin, "/api/config")
    try:
        return (Address.parse(answer["config_info"]["master_address"]),)
    except (BadTask, LookupError, TypeError, AttributeError):
        return ()


def get(admin: Address, path: str) -> tuple[int, Any]:
    """The HTTP status and the JSON of a page, by http and then by https; (0, None) where neither answers.

    Where the admin asks for a user, and there is one for sign_in_as(), signs in first; AdminRefused if it is not taken.
    """
    for scheme in ("http", "https"):
        try:
            page = http.get(admin, path, scheme=scheme, cookies=_cookies.get(admin, ""))
            if page.status == 401 and admin in _logins:
                _cookies[admin] = _sign_in(admin, scheme, _logins[admin])
                page = http.get(admin, path, scheme=scheme, cookies=_cookies[admin])
            if page.status != 400:  # a TLS server answers plain HTTP with 400
                return page.status, json.loads(page.body) if page.status == 200 else None
        except HttpFailed as error:
            if error.timed_out:  # it would not answer the other way either
                break
        except (ValueError, RecursionError):  # no JSON
            continue
    return 0, None


def _sign_in(admin: Address, scheme: str, login: Login) -> str:
    """The cookies of a session, got as a browser gets them: the form with its token, then user and password."""
    form = http.get(admin, "/login", scheme=scheme)
    token = re.search(rb'name="csrf_token"[^>]*value="([^"]*)"', form.body)
    fields = {"username": login.user, "password": login.password}
    if token:
        fields["csrf_token"] = html.unescape(token[1].decode(errors="replace"))
    answer = http.post_form(admin, "/login", fields, scheme=scheme, cookies=form.cookies)
    if answer.status not in (302, 303) or "error=" in answer.location or not (answer.cookies or form.cookies):
        raise AdminRefused(f"admin {admin.http} does not take user {login.user!r} with the password of {login.source}")
    return answer.cookies or form.cookies
