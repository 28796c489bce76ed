"""Access to the review page: only the person who started it, from a page that it served.

Every request passes `Guard`. It checks the Host (against DNS rebinding: a foreign name that
resolves to this machine), the Origin, the session cookie, and on writes the CSRF header. A login
node is shared: who can reach the port still needs the token of the printed link.
"""

import hmac
import secrets
from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_HEADER = "x-tomopipe-csrf"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_DATA = "/zarr/"
_SHARED = {
    "access-control-allow-headers": "range",
    "access-control-expose-headers": "accept-ranges, content-length, content-range",
    "access-control-allow-private-network": "true",
    "cross-origin-resource-policy": "cross-origin",
    "vary": "origin",
}
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_SESSION_SECONDS = 7 * 24 * 3600
_MAX_BODY_BYTES = 1_000_000  # enough for decisions on some thousand scans


class Keys:
    """The secrets of one server: the token of the next link, and the sessions from earlier ones."""

    def __init__(self, on_exchange: Callable[[str], None] | None = None) -> None:
        self.token = secrets.token_urlsafe(32)
        self.data_token = secrets.token_urlsafe(32)  # of volumes, for programs without a cookie
        self.cookie = f"tomopipe-{secrets.token_hex(4)}"  # cookies are shared by all ports
        self._csrf: dict[str, str] = {}
        self._on_exchange = on_exchange

    def exchange(self, token: str) -> str | None:
        """Return a new session for the token of the link, which is then invalid; else None."""
        if not _equal(token, self.token):
            return None
        session = secrets.token_urlsafe(32)
        self._csrf[session] = secrets.token_urlsafe(32)
        self.token = secrets.token_urlsafe(32)
        if self._on_exchange:
            self._on_exchange(self.token)
        return session

    def csrf_of(self, session: str) -> str | None:
        """Return the CSRF token of a session; None if there is no such session."""
        return next((csrf for each, csrf in self._csrf.items() if _equal(session, each)), None)


class Guard:
    """ASGI middleware that admits only the person with the link."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        allow_hosts: Iterable[str] = (),  # further host names, of a proxy
        # origin of a page that may read volumes, with the token in the path
        allow_origin: str = "",
        prefix: str = "",  # /user/me/proxy/8765, which the proxy may remove or keep
    ) -> None:
        self.app = app
        self.keys = keys
        names = ((h.lower(), _hostname("//" + h.rpartition("//")[2])) for h in allow_hosts)
        self.hosts = LOCAL_HOSTS.union(*names) - {""}
        self.allow_origin = allow_origin.rstrip("/").lower()
        self.prefix = clean_prefix(prefix)
        self._path = unquote(self.prefix)  # as the server decodes it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets
        bare = bool(self._path) and scope["path"] == self._path
        path: str = scope["path"]
        if bare or (self._path and path.startswith(self._path + "/")):
            path = path[len(self._path) :]
        path = path or "/"
        scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        headers = dict(_HEADERS)
        answer: Response | None = None
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or _hostname(f"//{hosts[0]}") not in self.hosts:
            answer = _refuse("this name is not allowed: see --allow-host")
        if scope["path"].startswith(_DATA):
            answer = answer or self._data(scope)
            if self.allow_origin and Headers(scope=scope).get("origin") == self.allow_origin:
                headers |= _SHARED | {"access-control-allow-origin": self.allow_origin}
        else:
            answer = answer or self._refusal(scope)
            answer = answer or (self._slash(scope) if bare else self._sign_in(scope))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent_headers = MutableHeaders(scope=message)
                for name, value in headers.items():
                    sent_headers.setdefault(name, value)
                sent_headers.setdefault("cache-control", "no-store")
            await send(message)

        await (answer or self.app)(scope, receive, send_guarded)

    def _slash(self, scope: Scope) -> Response:
        """Add the slash at the end of the prefix, to which the page's addresses are relative."""
        query = scope["query_string"].decode("latin-1")
        last = self.prefix.rsplit("/", 1)[1]
        return RedirectResponse(f"{last}/" + (f"?{query}" if query else ""))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the refusal of a foreign page, or a write that is not of our own page, or None."""
        headers = Headers(scope=scope)
        writes = scope["method"] not in _SAFE_METHODS
        origin = headers.get("origin")
        is_ours = self._is_own(origin, headers["host"]) if origin is not None else not writes
        if not is_ours:
            return _refuse("the request does not come from this page")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and (
            writes or headers.get("sec-fetch-mode") != "navigate"
        ):
            return _refuse("the request comes from another page")
        if writes:
            length = headers.get("content-length", "")
            if not (length.isdecimal() and int(length) <= _MAX_BODY_BYTES):
                return PlainTextResponse("the request is too long", status_code=413)
            csrf = self.keys.csrf_of(Request(scope).cookies.get(self.keys.cookie, ""))
            if csrf is None or not _equal(headers.get(CSRF_HEADER, ""), csrf):
                return _refuse("the request lacks the key of this page: load it again")
        return None

    def _data(self, scope: Scope) -> Response | None:
        """Return a refusal; None for the token of volumes, of no page, ours or the allowed one."""
        headers = Headers(scope=scope)
        origin = headers.get("origin", self.allow_origin)
        if origin != self.allow_origin and not self._is_own(origin, headers["host"]):
            return _refuse("this page may not read volumes: see --allow-origin")
        if scope["method"] == "OPTIONS":
            return Response(status_code=204)
        if scope["method"] not in _SAFE_METHODS:
            return _refuse("volumes are only read")
        if not _equal(scope["path"].removeprefix(_DATA).partition("/")[0], self.keys.data_token):
            return _refuse("the token is not that of this server: copy the address again")
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        """Tell whether a page of `origin` is ours; a proxy may have put its own port into Host."""
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        return parts.netloc == host or _hostname(origin) in self.hosts - LOCAL_HOSTS

    def _sign_in(self, scope: Scope) -> Response | None:
        """Exchange the token of a link for a cookie, or refuse; None for requests with a cookie."""
        request = Request(scope)
        is_signed_in = self.keys.csrf_of(request.cookies.get(self.keys.cookie, "")) is not None
        token = request.query_params.get("token")
        if token is None:
            return None if is_signed_in else _refuse("open the link that tomopipe review printed")
        # redirect to the address without the token; relative, as only the browser knows the prefix
        page = scope["path"].rpartition("/")[2]
        home = RedirectResponse(f"./{page}", status_code=303)
        if is_signed_in:
            return home
        session = self.keys.exchange(token) if scope["method"] == "GET" else None
        if session is None:
            return _refuse("this link was already used: open the latest one printed")
        home.set_cookie(
            self.keys.cookie,
            session,
            max_age=_SESSION_SECONDS,
            path=self.prefix or "/",
            httponly=True,
            samesite="strict",
            secure=request.headers.get("x-forwarded-proto") == "https",
        )
        return home


def clean_prefix(prefix: str) -> str:
    """Return a path prefix with a slash at the start and none at the end; "" for none.

    Characters that a link or a cookie cannot have are percent-encoded, unless they are already.
    """
    parts = [part for part in quote(prefix, safe="/%@:+,=&~!$'()*").split("/") if part]
    return "/" + "/".join(parts) if parts else ""


def _refuse(reason: str) -> Response:
    return PlainTextResponse(f"403: {reason}\n", status_code=403)


def _equal(text: str, other: str) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "replace"), other.encode())


def _hostname(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
