from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any, Callable
from urllib.parse import urljoin

import requests


class Session(requests.Session):
    """Sends the person's token to one service, and to no other place."""

    def __init__(self, base: str, headers: Callable[[], dict[str, str]]) -> None:
        super().__init__()
        self._base, self._headers = base, headers
        self.trust_env = False  # it is on loopback: no proxy, no netrc
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        if not url.startswith("/"):
            raise ValueError(f"want a path of the service, such as /groups, not {url!r}")
        kwargs["headers"] = {**(kwargs.get("headers") or {}), **self._headers()}
        return super().request(method, self._base + url, *args, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        return target if target and urljoin(resp.url, target).startswith(self._base + "/") else None
