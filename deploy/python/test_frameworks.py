"""Tests of obo_relay with the real frameworks: make python installs them and runs these."""

import os
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

import obo_relay

TOKEN = "X-Forwarded-Access-Token"


class Service(BaseHTTPRequestHandler):
    """What obo-publisher stands for: answers with the token, sets a cookie, redirects."""

    def do_GET(self):
        place = {"/here": "/echo", "/away": f"http://localhost:{self.server.server_port}/echo"}.get(self.path)
        self.send_response(307 if place else 200)
        if place:
            self.send_header("Location", place)
        self.send_header("Set-Cookie", "who=somebody")
        body = f"{self.headers.get(TOKEN)} {self.headers.get('Cookie')}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class WithService(unittest.TestCase):
    def setUp(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
        self.base = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        environ = mock.patch.dict(os.environ, {"OBO_URL_MIDDLEWARE": self.base})
        environ.start()
        self.addCleanup(environ.stop)


class WithFlask(WithService):
    def setUp(self):
        super().setUp()
        import flask

        self.app = flask.Flask(__name__)

    def as_person(self, token):
        return self.app.test_request_context(headers={TOKEN: token})


class Flask(WithFlask):
    def test_shared_session_mixes_nobody_up(self):
        session = obo_relay.session("middleware")
        for token in "alice", "bob", "alice":
            with self.as_person(token):
                self.assertEqual(session.get("/echo").text, f"{token} None")
        with self.assertRaises(obo_relay.NoToken):
            session.get("/echo")

    def test_token_goes_nowhere_else(self):
        session = obo_relay.session("middleware")
        with self.as_person("alice"):
            here = session.get("/here")
            self.assertEqual((here.url, here.text.split()[0]), (self.base + "/echo", "alice"))
            self.assertEqual(session.get("/away").status_code, 307)
            self.assertEqual(session.get("/echo").text, "alice None")  # no cookie was kept
            with mock.patch.dict(os.environ, {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": ""}):
                self.assertEqual(session.get("/echo").text, "alice None")
            for address in "http://example.com/", self.base + "/echo", "echo":
                with self.assertRaises(ValueError):
                    session.get(address)
            # "//host" and "/@host" stay paths.
            self.assertEqual(session.get("//example.com/echo").url.partition("/e")[0], self.base + "/")


class Thread(WithFlask):
    def test_thread(self):
        import dash, gradio, streamlit  # none of which knows of a request there

        seen = []

        def call():
            try:
                obo_relay.headers()
            except obo_relay.NoToken as e:
                seen.append(e)

        with self.as_person("alice"):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        self.assertEqual(len(seen), 1, (dash, gradio, streamlit))


class Dash(WithService):
    def test_each_server(self):
        for server in "flask", "fastapi":
            with self.subTest(server):
                self.callback(server)

    def callback(self, server):
        import dash
        from fastapi.testclient import TestClient

        app = dash.Dash(__name__, backend=server)
        app.layout = dash.html.Div([dash.dcc.Input(id="in"), dash.html.Div(id="out")])

        @app.callback(dash.Output("out", "children"), dash.Input("in", "value"))
        def show(_):
            return obo_relay.session("middleware").get("/echo").text

        body = {
            "output": "out.children", "outputs": {"id": "out", "property": "children"},
            "inputs": [{"id": "in", "property": "value", "value": "x"}], "changedPropIds": ["in.value"],
        }
        client = TestClient(app.server) if server == "fastapi" else app.server.test_client()
        for token in "alice", "bob":
            answer = client.post("/_dash-update-component", json=body, headers={TOKEN: token})
            self.assertIn(f"{token} None", answer.text)
        with self.assertRaises(obo_relay.NoToken):
            obo_relay.headers()


class Streamlit(unittest.TestCase):
    """What a script sees is tested with the UI app: make e2e."""

    def test_outside_a_script(self):
        import streamlit

        self.assertIsNotNone(streamlit.context)
        with self.assertRaises(obo_relay.NoToken):
            obo_relay.headers()


class FastAPI(WithService):
    def test_request_is_handed_over(self):
        import fastapi
        from fastapi.testclient import TestClient

        app = fastapi.FastAPI()

        @app.get("/")
        def read(request: fastapi.Request) -> str:
            return obo_relay.session("middleware", request).get("/echo").text

        self.assertEqual(TestClient(app).get("/", headers={TOKEN: "alice"}).json(), "alice None")


class Gradio(WithService):
    def test_event(self):
        import gradio
        from gradio_client import Client

        def call(_):
            return obo_relay.session("middleware").get("/echo").text

        with gradio.Blocks(analytics_enabled=False) as blocks:
            box = gradio.Textbox()
            gradio.Button().click(call, box, box, api_name="call")
        _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
        self.addCleanup(blocks.close)
        for token in "alice", "bob":
            client = Client(address, headers={TOKEN: token}, verbose=False)
            self.assertEqual(client.predict("x", api_name="/call"), f"{token} None")

    def test_nobody_is_answered_as_the_one_who_came_first(self):
        import gradio
        from gradio_client import Client

        def who(names):
            together.wait()  # so that those who come meanwhile are one batch
            seen = []
            for name in names:
                try:
                    seen.append(f"{name} as {obo_relay.headers()[TOKEN]}")
                except obo_relay.NoToken as e:
                    seen.append(str(e))
            return [seen]

        together = threading.Event()
        with gradio.Blocks(analytics_enabled=False) as blocks:
            box = gradio.Textbox()
            gradio.Button().click(who, box, box, api_name="who", batch=True)
        _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
        self.addCleanup(blocks.close)
        clients = {name: Client(address, headers={TOKEN: name}, verbose=False) for name in ("alice", "bob")}
        jobs = [clients[name].submit(name, api_name="/who") for name in ("alice", "alice", "bob", "bob")]
        together.set()
        for job in jobs:
            self.assertIn("several people", job.result())


if __name__ == "__main__":
    unittest.main()
