"""Tests of obo_relay that need nothing but Python: python3 -B -m unittest test_obo_relay (go test runs them)."""

import os
import sys
import types
import unittest
from contextlib import contextmanager
from unittest import mock

import obo_relay

TOKEN = "X-Forwarded-Access-Token"


def module(name: str, **content: object) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(content)
    return made


@contextmanager
def imported(*modules: types.ModuleType):
    """Only these frameworks have been imported by the app."""
    frameworks = "streamlit", "streamlit.runtime", "streamlit.runtime.scriptrunner", "flask", "dash", "gradio", "gradio.context"
    with mock.patch.dict(sys.modules):
        for name in frameworks:
            sys.modules.pop(name, None)
        sys.modules.update({m.__name__: m for m in modules})
        yield


def streamlit(session: object, headers: dict):
    context = types.SimpleNamespace(headers=headers)
    runner = module("streamlit.runtime.scriptrunner", get_script_run_ctx=lambda suppress_warning=False: session)
    return module("streamlit", context=context), module("streamlit.runtime"), runner


def flask(active: bool, headers: dict):
    return (module("flask", has_request_context=lambda: active, request=types.SimpleNamespace(headers=headers)),)


class NoCallback(Exception):
    pass


def dash(**context: object):
    exceptions = types.SimpleNamespace(MissingCallbackContextException=NoCallback)
    return (module("dash", exceptions=exceptions, ctx=types.SimpleNamespace(**context)),)


def gradio(request: object, event_id: object = "1", batch: bool = False, old: bool = False):
    fns = {0: types.SimpleNamespace(batch=False), 1: types.SimpleNamespace(batch=batch)}
    values = {"request": request, "event_id": event_id, "blocks": types.SimpleNamespace(fns=fns), "blocks_config": None}
    if old:
        del values["blocks_config"]
        values["blocks"] = types.SimpleNamespace(fns=list(fns.values()))
    local = types.SimpleNamespace(**{k: types.SimpleNamespace(get=lambda default=None, v=v: v) for k, v in values.items()})
    return module("gradio"), module("gradio.context", LocalContext=local)


class Headers(unittest.TestCase):
    def test_each_framework(self):
        headers = {"Accept": "*/*", TOKEN.lower(): "t1"}
        for name, modules in {
            "streamlit": streamlit(object(), headers),
            "flask": flask(True, headers),
            "dash on another server than Flask": dash(headers=headers),
            "gradio": gradio(types.SimpleNamespace(headers=headers)),
        }.items():
            with self.subTest(name), imported(*modules):
                self.assertEqual(obo_relay.headers(), {TOKEN: "t1"})

    def test_gradio_tells_of_one_request_of_a_batch(self):
        alice = types.SimpleNamespace(headers={TOKEN: "alice"})
        for old in False, True:
            with imported(*gradio(alice, event_id=None, old=old)):  # no queue
                self.assertEqual(obo_relay.headers(), {TOKEN: "alice"})
            with imported(*gradio(alice, batch=True, old=old)):  # a batch has no event id
                self.assertEqual(obo_relay.headers(), {TOKEN: "alice"})
            with imported(*gradio(alice, event_id=None, batch=True, old=old)), self.assertRaisesRegex(obo_relay.NoToken, "several"):
                obo_relay.headers()

    def test_the_framework_that_answers_a_request(self):
        with imported(*streamlit(None, {TOKEN: "wrong"}), *flask(True, {TOKEN: "t2"})):
            self.assertEqual(obo_relay.headers(), {TOKEN: "t2"})

    def test_request_that_is_handed_over(self):
        with imported(*flask(True, {TOKEN: "wrong"})):
            self.assertEqual(obo_relay.headers(types.SimpleNamespace(headers={TOKEN: "t3"})), {TOKEN: "t3"})

    def test_is_read_on_every_call(self):
        headers = {TOKEN: "old"}
        with imported(*flask(True, headers)):
            self.assertEqual(obo_relay.headers(), {TOKEN: "old"})
            headers[TOKEN] = "new"
            self.assertEqual(obo_relay.headers(), {TOKEN: "new"})

    def test_outside_a_request(self):
        for modules in (), streamlit(None, {}), streamlit(object(), {}), flask(False, {}), dash(), gradio(None):
            with imported(*modules), self.assertRaisesRegex(obo_relay.NoToken, "no request .* A thread has no request"):
                obo_relay.headers()

    def test_request_without_a_token(self):
        for headers in {"Host": "ui"}, {TOKEN: ""}:
            with imported(*flask(True, headers)), self.assertRaisesRegex(obo_relay.NoToken, "user authorization"):
                obo_relay.headers()

    def test_what_is_no_token_is_not_quoted(self):
        for value in "secret\n", " secret", "sec\rret", "secr\u00e9t":
            with self.assertRaisesRegex(obo_relay.NoToken, "characters that no token has") as caught:
                obo_relay.headers(types.SimpleNamespace(headers={TOKEN: value}))
            self.assertNotIn("sec", str(caught.exception))


class URL(unittest.TestCase):
    def test_url(self):
        with mock.patch.dict(os.environ, {"OBO_URL_MY_SERVICE": "http://127.0.0.1:9100/"}):
            self.assertEqual(obo_relay.url("my-service"), "http://127.0.0.1:9100")

    def test_not_under_the_publisher(self):
        with mock.patch.dict(os.environ, clear=True), self.assertRaisesRegex(RuntimeError, "OBO_URL_X is not set: .*obo-publisher"):
            obo_relay.url("x")

    def test_a_service_that_the_publisher_does_not_serve(self):
        with mock.patch.dict(os.environ, {"OBO_URL_B": "b", "OBO_URL_A": "a"}, clear=True), self.assertRaises(RuntimeError) as caught:
            obo_relay.url("x")
        self.assertRegex(str(caught.exception), "OBO_URL_X is not set, only OBO_URL_A, OBO_URL_B: correct")


if __name__ == "__main__":
    unittest.main()
