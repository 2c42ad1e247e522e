"""Opens the Streamlit UI as alice and as bob, as its page does in a browser: sign-in, cookie, WebSocket. No browser.

    drive.py FRONT APP EXPIRED-TOKEN: the UI's front proxy, the UI itself behind it, and alice's token of long ago
"""

import re
import sys
import time
from contextlib import ExitStack
from urllib.parse import parse_qsl, urlsplit

import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect


open_pages = ExitStack()


def sign_in(ui: str, user: str) -> dict[str, str]:
    """The headers of a browser that has signed in."""
    s = requests.Session()
    s.trust_env = False
    page = s.get(ui)
    form = urlsplit(page.url)
    assert form.path.startswith("/oidc/"), f"{ui} did not lead to the sign-in page but to {page.url}"
    s.post(form._replace(query="").geturl(), data={**dict(parse_qsl(form.query)), "user": user}).raise_for_status()
    return {"Cookie": "; ".join(f"{c.name}={c.value}" for c in s.cookies)}


class Page:
    """One person's open page."""

    def __init__(self, ui: str, user: str, headers: dict[str, str]) -> None:
        socket = connect(
            ui.replace("http", "ws", 1) + "/_stcore/stream",
            additional_headers=headers, subprotocols=["streamlit"], proxy=None, max_size=None,
        )
        self.socket = open_pages.enter_context(socket)
        self.user, self.buttons, self.inputs = user, {}, {}
        self.texts = self.run()

    def run(self, click: str = "", statement: str = "") -> list[str]:
        """Lets the script run, as after a click, and returns every text that it shows, with the time of each."""
        back = BackMsg()
        back.rerun_script.SetInParent()
        if click:
            back.rerun_script.widget_states.widgets.add(id=self.buttons[click], trigger_value=True)
        if statement:
            back.rerun_script.widget_states.widgets.add(id=next(iter(self.inputs.values())), string_value=statement)
        self.socket.send(back.SerializeToString())
        self.shown: list[tuple[float, str]] = []
        while True:
            message = ForwardMsg.FromString(self.socket.recv(timeout=30))
            if message.WhichOneof("type") == "script_finished":
                return [text for _, text in self.shown]
            if message.WhichOneof("type") == "delta":
                self.show(message.delta.new_element)

    def show(self, element) -> None:
        kind = element.WhichOneof("type")
        if kind == "button":
            self.buttons[element.button.label] = element.button.id
        elif kind == "text_input":
            self.inputs[element.text_input.label] = element.text_input.id
        elif kind in ("markdown", "alert"):
            self.shown.append((time.monotonic(), getattr(element, kind).body))
        elif kind in ("arrow_table", "table", "arrow_data_frame"):
            text = re.sub(r"[^ -~]+", " ", str(element).replace("\\000", " "))
            self.shown.append((time.monotonic(), f"{kind}: {text}"))
        elif kind == "exception":
            self.shown.append((time.monotonic(), f"EXCEPTION {element.exception.message}"))


faults = 0


def check(page: Page, what: str, good: bool) -> None:
    global faults
    faults += not good
    print("ok  " if good else "FAULT", page.user.removesuffix("@example.com"), what, "" if good else page.shown, flush=True)


front, app, expired = sys.argv[1:]
alice, bob = (Page(front, user, sign_in(front, user)) for user in ("alice@example.com", "bob@example.com"))
for page, groups in (alice, "Your groups: analysts, data-admins"), (bob, "Your groups: analysts"):
    check(page, "is who the middleware sees", f"The middleware sees **{page.user}**" in page.texts)
    check(page, "has the right groups", groups in page.texts)
check(alice, "gets the admin report", "42 rows" in alice.run("Admin report"))
check(bob, "is told why not", "403: for data-admins only" in bob.run("Admin report"))
for page in alice, bob:
    check(page, "runs SQL as themselves", any(page.user in text for text in page.run("Run")))
check(alice, "sees the filtered row", any("secret" in text for text in alice.run("Run", "SELECT * FROM sales")))
texts = bob.run("Run", "SELECT * FROM sales")
check(bob, "does not see the filtered row", any("EMEA" in t for t in texts) and not any("secret" in t for t in texts))
check(bob, "is told what is wrong with a statement", any("PARSE_SYNTAX_ERROR" in t for t in bob.run("Run", "SELEC 1")))
for page, name in (alice, "Alice"), (bob, "Bob"):
    page.run("Stream")
    words = [(at, text) for at, text in page.shown if text.startswith("Hello")]
    check(page, f"reads {len(words)} steps of the streamed answer", bool(words) and name in words[-1][1])
    check(page, "reads it word by word", len(words) > 3 and words[-1][0] - words[0][0] > 0.5)
# What the page presents is the token of the request that opened it, however long ago that was.
left_open = Page(app, "alice, whose page was left open", {"X-Forwarded-Access-Token": expired})
check(left_open, "is told to reload it", any(re.search("401: .*expired.*Reload the page", t) for t in left_open.texts))
check(left_open, "sees nothing of the answer", not any("The middleware sees" in t for t in left_open.texts))
open_pages.close()
sys.exit(faults > 0)
