"""The HTTP session of a sender: one endpoint, its credentials, a deadline for each request, bounded answers."""

from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import PackageNotFoundError, version

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from penpot_telemetry.deadline import DeadlineAdapter
from penpot_telemetry.endpoint import Endpoint


class _NoCredentials(AuthBase):
    """Keeps requests from looking for a password in the user's .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Session(requests.Session):
    """A session whose requests end in time, whatever the server does."""

    def __init__(self) -> None:
        super().__init__()
        self.deadline = DeadlineAdapter()
        for scheme in ("http://", "https://"):
            self.mount(scheme, self.deadline)


def open_session(endpoint: Endpoint) -> Session:
    """A session for one endpoint: proxies and certificates as the environment says, no cookies, no .netrc."""
    session = Session()
    session.headers.update({"User-Agent": f"penpot-telemetry/{own_version()}", "Accept-Encoding": "identity"})
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    if endpoint.auth:
        session.auth = HTTPBasicAuth(*endpoint.auth)
    else:
        session.auth = _Bearer(endpoint.token) if endpoint.token else _NoCredentials()
    return session


def explain_failure(error: Exception) -> str:
    """A failure in plain words: the library's own repeat the address with its credentials."""
    if isinstance(error, requests.ConnectTimeout):
        return "did not answer in time to the connection"
    if isinstance(error, requests.Timeout):
        return "took the batch and did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "has a certificate that cannot be verified (REQUESTS_CA_BUNDLE names further authorities)"
    if isinstance(error, requests.exceptions.ProxyError):
        return "cannot be reached through the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names"
    return "cannot be reached, or closed the connection before it answered"


def read_bounded(response: requests.Response, most: int) -> bytes:
    """The body up to a size, and nothing of one that is too long or cut off: a status is all that is needed."""
    found = bytearray()
    read_into(found, response, most)
    return bytes(found)


def read_into(found: bytearray, response: requests.Response, most: int) -> bool:
    """The body as far as it comes, nothing of one that is too long; says whether that is known to be all of it."""
    try:
        for chunk in response.raw.stream(4096, decode_content=False):
            found += chunk
            if len(found) > most:
                found.clear()
                return False
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        return False
    return response.raw.chunked or "Content-Length" in response.headers


def own_version() -> str:
    """The release of this project."""
    try:
        return version("penpot-telemetry")
    except PackageNotFoundError:
        return "0"
