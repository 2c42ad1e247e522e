"""Calls a service through obo-publisher, as the person whose request the app is answering.

    obo_relay.session("middleware").get("/groups")

The token is read from the current request at each call: from Streamlit's, Dash's, Flask's or Gradio's by itself, from
FastAPI's (and any other's) when the request is handed over: session("middleware", request). Nothing is kept, and nothing
here is secret: obo-publisher does the sealing.

What comes back belongs to one person: never put it into st.cache_data, functools.cache or a global.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

__all__ = ["NoToken", "headers", "session", "url"]

TOKEN = "X-Forwarded-Access-Token"


class NoToken(RuntimeError):
    """There is no current request here, or it has no person's token. The message says which, and what to do."""


def headers(request: Any = None) -> dict[str, str]:
    """The header that a call to a service needs, from the request that is being answered, or from the one given."""
    found = _current() if request is None else request.headers
    if not found:  # Streamlit's are empty once the page is gone
        raise NoToken(
            "no request is being answered here, or its page was closed: call this in a Streamlit script, or in a Dash, Flask or "
            "Gradio function (FastAPI: pass its request). A thread has no request: read headers() before it starts, and pass them on"
        )
    for name, value in found.items():
        if name.lower() == TOKEN.lower() and value:
            if not value.isascii() or not value.isprintable() or " " in value:  # requests would quote it in its error
                raise NoToken(f"the request's {TOKEN} has characters that no token has: pass on what the platform gave, unchanged")
            return {TOKEN: value}
    raise NoToken(
        f"the request has no {TOKEN}: switch user authorization on for this app, and open it through its Databricks URL"
    )


def url(service: str) -> str:
    """The address where obo-publisher serves a service, without a slash at the end."""
    name = "OBO_URL_" + service.upper().replace("-", "_")
    if address := os.environ.get(name):
        return address.rstrip("/")
    if others := ", ".join(sorted(v for v in os.environ if v.startswith("OBO_URL_"))):
        raise RuntimeError(f"{name} is not set, only {others}: correct the service's name, or let obo-publisher serve it too")
    raise RuntimeError(f"{name} is not set: start the app under obo-publisher (obo-publisher -- streamlit run app.py)")


def session(service: str, request: Any = None) -> requests.Session:
    """A requests.Session whose addresses are paths of the service: session("middleware").get("/groups").

    It reads the token anew at each call, and keeps no cookies, so that one that people share mixes nobody up. One that was
    made with a request is that person's alone.
    """
    from ._session import Session

    return Session(url(service), lambda: headers(request))


def _current() -> Any:
    """Headers of the request that this thread answers, or None. Only frameworks that the app has imported are asked."""
    if "streamlit" in sys.modules:
        import streamlit
        from streamlit.runtime.scriptrunner import get_script_run_ctx

        if get_script_run_ctx(suppress_warning=True) is not None:
            return streamlit.context.headers
    if "flask" in sys.modules:  # Dash too
        import flask

        if flask.has_request_context():
            return flask.request.headers
    if "dash" in sys.modules:  # on another server than Flask, since Dash 4
        import dash

        with suppress(dash.exceptions.MissingCallbackContextException, LookupError, AttributeError):
            return dash.ctx.headers
    if "gradio" in sys.modules:
        from gradio.context import LocalContext

        if (request := LocalContext.request.get(None)) is not None:
            if LocalContext.event_id.get(None) is None and _batches(LocalContext):
                raise NoToken(
                    "a Gradio function with batch=True answers several people at once, and Gradio tells of one person's request "
                    "only: leave batch=True out of this app"
                )
            return request.headers
    return None


def _batches(context: Any) -> bool:
    """Whether a Gradio app has functions with batch=True, whose calls have no event id. Others without a queue have none either."""
    for name in "blocks", "blocks_config":  # the second of those, and a dict of functions, came with later versions 4
        variable = getattr(context, name, None)
        fns = getattr(variable.get(None), "fns", ()) if variable is not None else ()
        if any(fn.batch for fn in (fns.values() if isinstance(fns, dict) else fns)):
            return True
    return False
