"""A UI app. The middleware app answers it as the person who has the page open."""

from collections.abc import Iterator
from typing import Any

import obo_relay
import requests
import streamlit as st


def call(method: str, path: str, **options: Any) -> requests.Response | None:
    """One request to the middleware; what it says when it refuses is shown."""
    answer = obo_relay.session("middleware").request(method, path, timeout=60, **options)
    if answer.ok:
        return answer
    st.error(reason(answer))
    return None


def reason(answer: requests.Response) -> str:
    """The text of a refusal: the relay's (RFC 9457) and FastAPI's both have a detail."""
    try:
        return f"{answer.status_code}: {answer.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason}"


def words(answer: requests.Response) -> Iterator[str]:
    for line in answer.iter_lines(chunk_size=1):
        if line.startswith(b"data: "):
            yield line.removeprefix(b"data: ").decode() + " "


st.title("On behalf of you")

if me := call("GET", "/me"):
    st.write(f"The middleware sees **{me.json()['user']}**")
if groups := call("GET", "/groups"):
    st.write("Your groups: " + ", ".join(groups.json()))

if st.button("Admin report") and (report := call("GET", "/report")):
    st.success(f"{report.json()['rows']} rows")

statement = st.text_input("SQL, run as you", "SELECT current_user()")
if st.button("Run") and (result := call("POST", "/sql", json={"statement": statement})):
    rows = result.json()
    st.table([dict(zip(rows["columns"], row)) for row in rows["rows"]])

if st.button("Stream") and (stream := call("GET", "/stream", stream=True)):
    with stream:
        st.write_stream(words(stream))
