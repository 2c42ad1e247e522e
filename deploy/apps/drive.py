"""Uses the Streamlit UI as alice and as bob, each in a browser of their own. e2e_test.go starts it, and all that it needs."""

import argparse
import base64
import re
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Playwright, expect, sync_playwright

ROUNDS = 20
FLAGS = [
    "--disable-gpu", "--disable-quic", "--disable-component-update", "--disable-sync", "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing here leaves this machine
]
expect.set_options(timeout=60_000)

arguments = argparse.ArgumentParser()
for name in "browser", "ui", "short", "control":
    arguments.add_argument("--" + name, required=True)
arguments.add_argument("--pictures", required=True, type=Path)
given = arguments.parse_args()


def ok(text: str) -> None:
    print("  ok  ", text, flush=True)


def control(what: str) -> None:
    """Has an app started, stopped or killed, and returns when that is done."""
    request = urllib.request.Request(f"{given.control}/{what}", method="POST")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120).close()


class Person:
    """A person at a browser that has this one page open."""

    def __init__(self, playwright: Playwright, name: str, address: str) -> None:
        self.name, self.email = name, f"{name.lower()}@example.com"
        self.received: list[bytes] = []
        self.browser: Browser = playwright.chromium.launch(executable_path=given.browser, args=FLAGS)
        self.page: Page = self.browser.new_context(viewport={"width": 900, "height": 1200}, device_scale_factor=1.5).new_page()
        self.page.on("websocket", lambda socket: socket.on("framereceived", self.receive))
        self.page.goto(address)
        expect(self.page).to_have_title(re.compile("Sign in to"))

    def receive(self, frame: str | bytes) -> None:
        self.received.append(frame.encode() if isinstance(frame, str) else frame)

    def sign_in(self) -> None:
        self.page.get_by_role("button", name=self.email).click()
        self.sees("person", f"The middleware sees {self.email}")

    def card(self, key: str) -> Locator:
        return self.page.locator(f".st-key-{key}")

    def sees(self, card: str, *texts: str | re.Pattern[str]) -> None:
        for text in texts:
            expect(self.card(card)).to_contain_text(text)

    def sees_no(self, *texts: str) -> None:
        shown = self.page.inner_text("body").lower()
        for text in texts:
            assert text.lower() not in shown, f"{self.name} sees {text!r} in: {shown}"

    def click(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def run(self, statement: str) -> None:
        self.page.get_by_label("Statement").fill(statement)
        self.click("Run")

    def picture(self, name: str) -> bytes:
        self.page.mouse.move(1, 1)
        title, last = self.page.get_by_role("heading", level=1).bounding_box(), self.card("sql").bounding_box()
        clip = {"x": 0, "y": title["y"] - 24, "width": 900, "height": last["y"] + last["height"] - title["y"] + 56}
        return self.page.screenshot(path=given.pictures / f"{name}.png", clip=clip)

    def watch(self) -> None:
        """Notes every text that the streamed answer has from now on."""
        self.page.evaluate("""() => {
            window.steps = [];
            const note = () => {
                const text = document.querySelector(".st-key-streamed").innerText.match(/Hello .*/)?.[0].trim();
                if (text && text !== steps.at(-1)) steps.push(text);
            };
            window.watcher?.disconnect();
            window.watcher = new MutationObserver(note);
            watcher.observe(document.body, {subtree: true, childList: true, characterData: true});
        }""")

    def steps(self) -> list[str]:
        return self.page.evaluate("steps")

    def waits_for_steps(self, n: int) -> None:
        self.page.wait_for_function(f"steps.length >= {n}", timeout=60_000)


def signs_in(alice: Person, bob: Person) -> None:
    alice.page.screenshot(path=given.pictures / "sign-in.png")
    for person in alice, bob:
        person.sign_in()
    alice.sees("person", "Alice", "data-admins", "analysts")
    bob.sees("person", "Bob", "analysts")
    expect(bob.card("person")).not_to_contain_text("data-admins")
    ok("alice and bob sign in, and the middleware sees each, with their groups")


def report(alice: Person, bob: Person) -> None:
    alice.click("Open report")
    bob.click("Open report")
    alice.sees("report", "42 rows")
    bob.sees("report", "403: for data-admins only")
    bob.sees_no("42 rows")
    ok("alice reads the report, bob is told why he may not")


def sql(alice: Person, bob: Person) -> None:
    bob.run("SELEC 1")
    bob.sees("sql", "400: [PARSE_SYNTAX_ERROR] Syntax error at or near 'SELEC'")
    for person in alice, bob:
        person.run("SELECT * FROM sales")
        person.sees("sql", "EMEA", "AMER")
    alice.sees("sql", "embargoed")
    bob.sees_no("embargoed")
    ok("the same statement gives alice three rows and bob two")


def stream(alice: Person, bob: Person) -> None:
    for person in alice, bob:
        person.watch()
        person.click("Ask")
    for person, groups in (alice, "analysts and data-admins"), (bob, "analysts"):
        person.sees("streamed", f"Hello {person.name}. The workspace says that you are in {groups}.", "and nothing else.")
        steps = person.steps()
        grew = [(a, b) for a, b in zip(steps, steps[1:]) if b.startswith(a)]
        assert len(grew) >= 3 and len(grew) == len(steps) - 1, f"the text did not only grow: {steps}"
        ok(f"{person.name.lower()} reads the streamed answer in {len(steps)} steps")


def interleaved(alice: Person, bob: Person) -> None:
    """Both ask at the same time, over and over; what the one was sent never names the other."""
    begun = time.monotonic()
    for i in range(ROUNDS):
        pair = (alice, bob) if i % 2 else (bob, alice)
        for person in pair:
            person.run(f"SELECT current_user(), {1000 + i}")
        for person in pair:
            person.sees("sql", re.compile(f"{re.escape(person.email)}.*{1000 + i}", re.S))
    ok(f"{ROUNDS} times both ask at once, and each is answered as themselves ({time.monotonic() - begun:.0f} s)")


def apart(alice: Person, bob: Person) -> None:
    """Nothing that belongs to the one has reached the browser of the other."""
    for person, others in (alice, ["bob"]), (bob, ["alice", "data-admins\"", "embargoed", "42 rows"]):
        everything = b"".join(person.received).lower()
        assert person.email.encode() in everything, "what was received cannot be read"
        for text in others:
            person.sees_no(text)
            assert text.encode() not in everything, f"{text!r} was sent to {person.name}"
    ok(f"of {len(alice.received) + len(bob.received)} messages to the two browsers, none has anything of the other person")


def worker_restarts(alice: Person, bob: Person) -> None:
    alice.watch()
    alice.click("Ask")
    alice.waits_for_steps(3)
    control("stop/middleware")
    alice.sees("streamed", "and nothing else.")
    ok("the middleware app is told to stop in the middle of alice's answer: it ends the answer first")
    bob.run("SELECT current_user(), 1")
    bob.sees("sql", re.compile("503: .*no worker"))
    bob.picture("no-worker")
    ok("bob asks while it is away, and is told so")
    control("start/middleware")
    answered(alice, bob, 2)
    ok("it is back, and both go on where they were")
    alice.watch()
    alice.click("Ask")
    alice.waits_for_steps(3)
    control("kill/middleware")
    alice.sees("streamed", "The connection broke before the answer was complete.")
    ok("it is killed in the middle of alice's answer: the page says that the answer is not complete")
    control("start/middleware")
    answered(alice, bob, 3)
    ok("it is back again")


def answered(alice: Person, bob: Person, mark: int) -> None:
    for person in alice, bob:
        person.run(f"SELECT current_user(), {mark}")
    for person in alice, bob:
        person.sees("sql", re.compile(f"{re.escape(person.email)}.*{mark}", re.S))


def expires(left_open: Person) -> None:
    """The page was opened long ago, with a token that lives for a minute."""
    deadline = time.monotonic() + 120
    while True:
        left_open.click("Open report")
        expect(left_open.card("report")).to_contain_text(re.compile("42 rows|401"))
        if "401" in left_open.card("report").inner_text():
            break
        assert time.monotonic() < deadline, "the token does not expire"
        left_open.page.wait_for_timeout(1000)
    left_open.sees("report", re.compile("401: .*expired.*Reload the page"))
    left_open.sees_no("42 rows")
    left_open.picture("expired")
    ok("a page that was left open until its token had expired says to reload it")
    left_open.page.reload()
    left_open.sees("person", left_open.email)
    left_open.click("Open report")
    left_open.sees("report", "42 rows")
    ok("reloaded, it works again")


def side_by_side(alice: Person, left: bytes, right: bytes) -> None:
    """One picture of both pages."""
    pictures = [base64.b64encode(png).decode() for png in (left, right)]
    page = alice.browser.new_context(viewport={"width": 1240, "height": 100}, device_scale_factor=1.5).new_page()
    page.set_content(
        "<!doctype html><body style='margin:0;display:flex;align-items:flex-start;gap:16px;padding:16px;background:#cbd5e1'>"
        + "".join(f"<img style='width:596px;border-radius:10px' src='data:image/png;base64,{p}'>" for p in pictures)
    )
    page.screenshot(path=given.pictures / "both.png", full_page=True)


def main(playwright: Playwright) -> int:
    people: dict[str, Person] = {}

    def arrives(key: str, name: str, address: str) -> Person:
        people[key] = Person(playwright, name, address)
        return people[key]

    try:
        left_open = arrives("left-open", "Alice", given.short)
        left_open.sign_in()
        alice, bob = arrives("alice", "Alice", given.ui), arrives("bob", "Bob", given.ui)
        for part in signs_in, report, sql, stream:
            part(alice, bob)
        side_by_side(alice, alice.picture("alice"), bob.picture("bob"))
        for part in interleaved, worker_restarts, apart:
            part(alice, bob)
        expires(left_open)
    except Exception as e:
        print("FAULT ", e, flush=True)
        for key, person in people.items():
            person.page.screenshot(path=given.pictures / f"fault-{key}.png", full_page=True)
        return 1
    return 0


given.pictures.mkdir(parents=True, exist_ok=True)
with sync_playwright() as started:
    sys.exit(main(started))
