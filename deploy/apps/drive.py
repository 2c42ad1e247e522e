"""Opens the Streamlit UI as alice and as bob, as its page does in a browser: sign-in, cookie, WebSocket. No browser."""

import re
import sys
import time
from urllib.parse import parse_qsl, urlsplit

import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect


class Page:
    """One person's open page."""

    def __init__(self, ui: str, user: str) -> None:
        s = requests.Session()
        s.trust_env = False
        signin = s.get(ui)
        form = urlsplit(signin.url)
        assert form.path.startswith("/oidc/"), f"{ui} did not lead to the sign-in page but to {signin.url}"
        s.post(form._replace(query="").geturl(), data={**dict(parse_qsl(form.query)), "user": user}).raise_for_status()
        cookies = "; ".join(f"{c.name}={c.value}" for c in s.cookies)
        self.socket = connect(
            ui.replace("http", "ws", 1) + "/_stcore/stream",
            additional_headers={"Cookie": cookies}, subprotocols=["streamlit"], proxy=None, max_size=None,
        )
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
    print("ok  " if good else "FAULT", page.user.split("@")[0], what, "" if good else page.shown, flush=True)


alice, bob = Page(sys.argv[1], "alice@example.com"), Page(sys.argv[1], "bob@example.com")
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
sys.exit(faults > 0)
