"""Runs the reader through ../vectors and reports every case in which it and the vectors differ."""

import base64
import json
import pathlib
import sys

import forms
import reader

HERE = pathlib.Path(__file__).resolve().parent.parent / "vectors"
failures, counts = [], {}


def load(name):
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def check(area, case, got, want):
    counts[area] = counts.get(area, 0) + 1
    if got != want:
        failures.append(f"{area}: {case}: {got!r}, want {want!r}")


def outcome(call, *args):
    """(code or ok, result)"""
    try:
        return "ok", call(*args)
    except forms.Refused as e:
        return e.code, None
    except ValueError as e:
        return "refused", e


keys = load("keys")
trust = keys["trust"]
instance = keys["instances"]["instance"]
live = {instance["kid"]: {**instance["public"], "d": instance["d"]}}

for c in load("announcements")["cases"]:
    got, a = outcome(reader.open_announcement, trust, c["service"], c["payload"], c["now"])
    check("announcements", c["name"], got, c["want"])
    if a:
        check("announcements", c["name"] + ": key", a["jwk"], instance["public"])

for c in load("grants")["cases"]:
    worker = reader.Worker(trust, "middleware", "abcdefghij234567", live, c.get("opaque_allowed", False))
    got, grant = outcome(worker.open_grant, c["grant"], c["app"], c["now"])
    check("grants", c["name"], got, c["want"])
    if grant:
        check("grants", c["name"] + ": claims", {k: grant.claims[k] for k in ("gid", "secret", "token")}, {k: c[k] for k in ("gid", "secret", "token")})

frames = load("frames")
frame_keys = {}
for k in frames["keys"]:
    secret = base64.urlsafe_b64encode(bytes.fromhex(k["secret"])).rstrip(b"=").decode()
    grant = reader.Grant({"gid": k["gid"], "secret": secret}, "ui", "")
    derived = grant.key("obo/1 " + k["name"].split(",")[0], k["id"], bytes.fromhex(k["salt"]))
    check("frames", k["name"] + ": key", derived.hex(), k["key"])
    frame_keys[k["name"]] = derived
for c in frames["cases"]:
    try:
        kind, seq, plaintext = reader.open_frame(frame_keys[c["key"]], bytes.fromhex(c["frame"]))
        got = {"want": "ok", "type": kind, "seq": str(seq), "plaintext": plaintext.hex()}
        want = {k: c[k] for k in got}
    except forms.Refused as e:
        got, want = e.args[1], c["want"]
    check("frames", c["name"], got, want)

READERS = {"obo.v1.reply-head": forms.read_reply_head, "obo.v1.end": forms.read_end}


def read_request_head(raw):
    head = forms.document(forms.parse(raw), forms.REQUEST_HEAD)
    forms.check_request_head(head)
    return head


for c in load("heads")["cases"]:
    got, head = outcome(READERS.get(c["document"], read_request_head), c["json"].encode("utf-8", "surrogatepass"))
    check("heads", c["name"], "ok" if got == "ok" else "refused", c["want"])
    if got == "ok" and c.get("header"):
        values = (head.get("header") or head["trailer"])["X-Bytes"]
        check("heads", c["name"] + ": bytes", values[0].hex(), c["header"])

for c in load("subjects")["cases"]:
    kind, tokens = forms.read_subject(c["prefix"], c["subject"])
    check("subjects", c["name"], {"kind": kind, **tokens}, {k: v for k, v in c.items() if k in ("kind", "service", "instance", "app", "inbox", "id")})

for c in load("paths")["cases"]:
    check("paths", c["path"][:40], outcome(forms.check_path, c["path"])[0], c["want"])

hints = load("hints")
hint_head = forms.document(hints["head"], forms.REQUEST_HEAD)
for c in hints["cases"]:
    check("hints", c["name"], outcome(forms.check_hints, c["hints"], hints["id"], hint_head)[0], c["want"])

requests = load("requests")
for c in requests["cases"]:
    worker = reader.Worker(trust, requests["service"], requests["instance"], live)
    for i, m in enumerate(c["messages"]):
        got, result = outcome(worker.take, m["subject"], m["reply"], m.get("hints"), bytes.fromhex(m["payload"]), m["now_ms"])
        check("requests", f"{c['name']}, message {i}", got, m["want"])
        if got == "ok":
            raw, body, whole = result
            check("requests", f"{c['name']}: what it holds", (raw.decode(), body.hex(), whole), (m.get("head", ""), m.get("body", ""), m.get("whole", False)))

replies = load("replies")
for c in replies["cases"]:
    reply = reader.Reply(reader.Grant({"gid": replies["gid"], "secret": replies["secret"]}, "ui", ""), replies["id"])
    for i, m in enumerate(c["messages"]):
        check("replies", f"{c['name']}: message {i} dropped", not reply.deliver(bytes.fromhex(m["payload"])), m.get("dropped", False))
    trailer = {name: [v.decode("latin-1") for v in values] for name, values in (reply.trailer or {}).items()}
    check("replies", c["name"], {
        "want": reply.state, "status": reply.head["status"] if reply.head else 0, "informs": reply.informs, "body": reply.body.hex(), "trailer": trailer, "code": reply.code or "",
    }, {
        "want": c["want"], "status": c.get("status", 0), "informs": c.get("informs", 0), "body": c.get("body", ""), "trailer": json.loads(c.get("trailer", "{}")), "code": c.get("code", ""),
    })
for c in replies["unsealed"]:
    check("replies", "unsealed " + c["payload"], reader.unsealed(bytes.fromhex(c["payload"])), c["code"])

print(", ".join(f"{area} {n}" for area, n in counts.items()))
files = {f.stem for f in HERE.glob("*.json")} - {"keys"}
if set(counts) != files:
    failures.append(f"areas {sorted(counts)}, files {sorted(files)}")
for failure in failures:
    print("FAIL", failure, file=sys.stderr)
sys.exit(1 if failures else 0)
