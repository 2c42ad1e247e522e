"""Forms of obo/1, from PROTOCOL.md sections 3, 4 and 9: text, JSON, subjects, paths, header fields, heads."""

import base64
import json
import re

LEEWAY = 30  # s, section 3
NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Refused(Exception):
    """Args: the code of section 12, or the step of the vectors; and why."""

    def __init__(self, code, why=""):
        super().__init__(code, why)
        self.code = code


def base64url(text):
    """Bytes of base64url without padding; another spelling of the same bytes is an error."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("alphabet")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("not canonical")
    return raw


def read_id(text):
    """The 16 bytes of a 26-character id."""
    if not re.fullmatch(r"[a-z2-7]{26}", text):
        raise ValueError("id")
    raw = base64.b32decode(text.upper() + "======")
    if base64.b32encode(raw).decode().rstrip("=").lower() != text:
        raise ValueError("id: not canonical")
    return raw


def parse(raw):
    """JSON as section 3 wants it: bytes in, no name twice, nothing behind the value."""

    def once(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    def constant(text):
        raise ValueError(text)

    value = json.loads(raw.decode("utf-8"), object_pairs_hook=once, parse_constant=constant)
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # a surrogate that stands alone is no Unicode
    return value


def document(value, members):
    """Checks the names and types of an object and fills in what is missing or null: 0, the empty text, nothing."""
    if not isinstance(value, dict) or not set(value) <= set(members):
        raise ValueError("not an object with these members")
    out = {}
    for name, kind in members.items():
        got = value.get(name)
        if got is None:
            out[name] = {int: 0, str: ""}.get(kind)
        elif callable(kind) and not isinstance(kind, type):
            out[name] = kind(got)
        elif type(got) is not kind:
            raise ValueError(name + " has another type")
        else:
            out[name] = got
    return out


def fields(value):
    """A header object: the values are bytes, one code point each."""
    out = {}
    for name, values in (value if isinstance(value, dict) else {None: None}).items():
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise ValueError("header")
        out[name] = [v.encode("latin-1") for v in values]
    return out


def names(value):
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError("trailer")
    return value


def problem(value):
    return document(value, {"type": str, "title": str, "status": int, "detail": str, "code": str, "outcome": str, "request_id": str, "retry_after_ms": int})


REQUEST_HEAD = {"method": str, "path": str, "query": str, "header": fields, "length": int, "trailer": names, "subject": str, "reply": str, "iat_ms": int, "timeout_ms": int}
REPLY_HEAD = {"status": int, "header": fields, "length": int, "trailer": names, "refusal": problem, "failure": problem}
END = {"trailer": fields, "failure": problem}


def check_names(all_names):
    for name in all_names:
        if not TOKEN.fullmatch(name) or name != "-".join(word.capitalize() for word in name.split("-")):
            raise Refused("bad_request", "a field name")


def check_fields(header):
    check_names(header or {})
    for values in (header or {}).values():
        if any(byte in b"\r\n\0" for value in values for byte in value):
            raise Refused("bad_request", "a field value")


def check_path(path):
    if len(path.encode()) > 8192:
        raise Refused("head_too_large", "path")
    segments = path.split("/")
    escapes = re.findall(r"%(..?)?", path)
    if (
        segments[0] != "" or len(segments) < 2 or "" in segments[1:-1] or "." in segments or ".." in segments
        or not re.fullmatch(r"[!-~]*", path) or re.search(r"[\\?#]", path)
        or re.search(r"%(?![0-9A-Fa-f]{2})", path)
        or any(e and (int(e, 16) in b"/\\." or int(e, 16) < 0x20 or int(e, 16) == 0x7F) for e in escapes)
    ):
        raise Refused("path_not_canonical", path)


def check_request_head(head):
    """The rules of section 9."""
    if not TOKEN.fullmatch(head["method"]) or len(head["method"]) > 32 or head["method"] == "CONNECT":
        raise Refused("bad_request", "method")
    if head["length"] < -1 or not 1 <= head["timeout_ms"] <= 86_400_000 or not re.fullmatch(r'[!"$-~]*', head["query"]):
        raise Refused("bad_request", "length, timeout_ms or query")
    check_path(head["path"])
    if re.search(r'["<>^`{|}]', head["path"]):
        raise Refused("path_not_canonical", "not encoded")
    check_fields(head["header"])
    check_names(head["trailer"] or [])


def read_reply_head(raw):
    head = document(parse(raw), REPLY_HEAD)
    if not 100 <= head["status"] <= 999 or head["length"] < -1 or head["refusal"] and head["failure"]:
        raise ValueError("reply head")
    check_fields(head["header"])
    check_names(head["trailer"] or [])
    return head


def read_end(raw):
    end = document(parse(raw), END)
    check_fields(end["trailer"])
    return end


def read_subject(prefix, subject):
    """(kind, tokens by name) of a subject; kind none if it is not of the grammar."""
    root = re.escape((prefix + "." if prefix else "") + "obo.v1.")
    some_id = r"[a-z2-7]{26}"
    for kind, rest in {
        "announce": rf"(?P<service>{NAME})", "discover": rf"(?P<service>{NAME})",
        "req": rf"(?P<service>{NAME})\.(?P<instance>[a-z2-7]{{16}})\.(?P<app>{NAME})",
        "ctl": rf"(?P<service>{NAME})\.(?P<instance>[a-z2-7]{{16}})\.(?P<app>{NAME})\.(?P<id>{some_id})",
        "rep": rf"(?P<app>{NAME})\.(?P<inbox>{some_id})\.(?P<id>{some_id})",
    }.items():
        match = re.fullmatch(root + kind + r"\." + rest, subject)
        if match:
            tokens = match.groupdict()
            try:
                for name in ("inbox", "id"):
                    read_id(tokens[name]) if name in tokens else None
            except ValueError:
                return "none", {}
            return kind, tokens
    return "none", {}


def check_hints(hints, request_id, head):
    """Section 11: a hint that contradicts the head is refused, whatever the letter case of its name."""
    trace = head["header"] or {}
    truth = {"obo-id": request_id, "obo-method": head["method"], "obo-path": head["path"], "traceparent": b"".join(trace.get("Traceparent", [b""])[:1]).decode("latin-1")}
    seen = set()
    for name, values in (hints or {}).items():
        name = name.lower()
        if name == "obo-status":
            raise Refused("refused", "a request with a status")
        if name in truth:
            if name in seen or values != [truth[name]]:
                raise Refused("refused", "hint " + name)
            seen.add(name)
