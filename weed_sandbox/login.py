"""The login of the sandbox's admin, as `weed admin -adminUser -adminPassword` of 4.44 has it."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from urllib.parse import parse_qs

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""

OPEN = ("/health", "/metrics", "/status")
"""Pages for everybody, beside those of tests."""

COOKIE = "admin-session"


class Login:
    """Lets those in who sent the form with a password; without users, everybody."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users
        self._tokens: dict[str, str] = {}  # of forms, by the cookie that was set with them
        self._sessions: set[str] = set()
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, cookies: str, body: bytes) -> Reply | None:
        """What stands before a page; None where nothing does."""
        if not self._users or path in OPEN or path.startswith(("/sandbox/", "/static/")):
            return None
        session = dict(part.strip().partition("=")[::2] for part in cookies.split(";")).get(COOKIE, "")
        with self._lock:
            if path == "/login":
                return self._form() if method == "GET" else self._sign_in(session, body)
            if session in self._sessions:
                return None
        if not path.startswith("/api/"):
            return 307, {"Location": "/login"}, b""
        refusal = {"error": "Authentication required", "message": "Please log in to access this endpoint"}
        return 401, {}, json.dumps(refusal).encode()

    def _form(self) -> Reply:
        session, token = secrets.token_urlsafe(12), secrets.token_hex(16)
        self._tokens[session] = token
        form = f'<form method="POST"><input type="hidden" name="csrf_token" value="{token}"></form>'
        return 200, {"Set-Cookie": f"{COOKIE}={session}; Path=/; HttpOnly"}, form.encode()

    def _sign_in(self, session: str, body: bytes) -> Reply:
        told = {name: values[-1] for name, values in parse_qs(body.decode()).items()}
        token = self._tokens.pop(session, None)
        if token is None or token != told.get("csrf_token"):
            return 403, {}, b"Invalid CSRF token"
        if self._users.get(told.get("username", "")) != told.get("password"):
            return 303, {"Location": "/login?error=Invalid credentials"}, b""
        fresh = secrets.token_urlsafe(12)
        self._sessions.add(fresh)
        return 303, {"Location": "/admin", "Set-Cookie": f"{COOKIE}={fresh}; Path=/; HttpOnly"}, b""
