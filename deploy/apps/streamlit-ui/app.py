"""A UI app. The middleware app answers it as the person who has the page open."""

from collections.abc import Callable, Iterator
from typing import Any

import obo_relay
import requests
import streamlit as st


class Refused(Exception):
    """The middleware, or the relay on the way to it, said no, and why."""


def call(method: str, path: str, **options: Any) -> requests.Response:
    answer = obo_relay.session("middleware").request(method, path, timeout=70, **options)  # the relay ends at 60 s, and says why
    if answer.ok and not answer.is_redirect:  # one to another place is not followed
        return answer
    try:
        reason = answer.json()["detail"]  # the relay's refusals (RFC 9457) and FastAPI's both have one
    except (ValueError, KeyError, TypeError):
        reason = answer.reason
    raise Refused(f"{answer.status_code}: {reason}")


def words(answer: requests.Response) -> Iterator[str]:
    """The data of server-sent events, as they come."""
    for line in answer.iter_lines(chunk_size=1):
        if line.startswith(b"data: "):
            yield line.removeprefix(b"data: ").decode() + " "


def card(content: Callable[[], None]) -> Callable[[], None]:
    """A box that runs by itself when a button in it is clicked, and shows what was refused."""

    @st.fragment
    def box() -> None:
        with st.container(border=True, key=content.__name__):
            try:
                content()
            except (Refused, obo_relay.NoToken) as e:
                st.error(str(e), icon=":material/block:")
            except requests.RequestException:
                st.error("The connection broke before the answer was complete. Try again.", icon=":material/link_off:")

    return box


@card
def person() -> None:
    me = call("GET", "/me").json()
    groups = call("GET", "/groups").json()
    st.subheader(me["name"], anchor=False)
    st.markdown(f"The middleware sees `{me['user']}` in " + " ".join(f":blue-badge[{group}]" for group in groups))


@card
def report() -> None:
    st.markdown("##### Admin report")
    st.caption("For the group data-admins, says the middleware.")
    if st.button("Open report", type="primary"):
        st.success(f"{call('GET', '/report').json()['rows']} rows", icon=":material/check_circle:")


@card
def streamed() -> None:
    st.markdown("##### Streamed answer")
    st.caption("Server-sent events, word by word.")
    if st.button("Ask", type="primary"):
        with call("GET", "/stream", stream=True) as stream:
            st.write_stream(words(stream))


@card
def sql() -> None:
    st.markdown("##### SQL, run as you")
    with st.form("statement", border=False):
        statement = st.text_input("Statement", "SELECT current_user()", label_visibility="collapsed")
        run = st.form_submit_button("Run", type="primary")
    if run:
        result = call("POST", "/sql", json={"statement": statement}).json()
        st.table([dict(zip(result["columns"], row)) for row in result["rows"]])


st.set_page_config(page_title="On behalf of you", page_icon=":material/badge:")
st.title("On behalf of you", anchor=False)
st.caption("Everything here comes from the middleware app, which acts as whoever has this page open.")
person()
left, right = st.columns(2)
with left:
    report()
with right:
    streamed()
sql()
