"""A reader of obo/1, written from PROTOCOL.md: announcements, grants, requests at a worker, replies at a publisher.

It is there to show that the text suffices, and opens everything with other people's libraries: joserfc for JWS and JWE,
cryptography for AES-GCM, HKDF and the curve.
"""

import hashlib
import json
import re
import warnings

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from forms import LEEWAY, REQUEST_HEAD, Refused, base64url, check_hints, check_request_head, document, parse, read_end, read_id, read_reply_head, read_subject

warnings.filterwarnings("ignore", message=".*EdDSA.*")  # RFC 9864 gives it another name

JWE = jwe.JWERegistry(algorithms=["ECDH-ES", "A256GCM"])
JWE.max_protected_header_length = 1366  # 1 KiB in base64url; the library's own limit is lower

JWK = {"kty": str, "crv": str, "x": str, "y": str}
ANNOUNCEMENT = {
    "iss": str, "sub": str, "seq": int, "iat": int, "exp": int, "jwk": lambda v: document(v, JWK), "kid": str, "key_exp": int,
    "state": str, "in_flight": int, "capacity": int, "max_body": int, "version": str, "server": str,
}
GRANT = {"iss": str, "aud": str, "rkid": str, "gid": str, "iat": int, "exp": int, "secret": str, "token": str}


def is_kid(text):
    try:
        return len(base64url(text)) == 32
    except ValueError:
        return False


def p256(key):
    """The public point of a JWK, which must be on the curve."""
    key = key or {}
    if (key.get("kty"), key.get("crv")) != ("EC", "P-256"):
        raise ValueError("not a P-256 key")
    x, y = base64url(key["x"]), base64url(key["y"])
    if len(x) != 32 or len(y) != 32:
        raise ValueError("coordinates have 32 bytes")
    ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()).public_key()


def verify(compact, typ, trusted, bad):
    """The claims of a JWS; bad names what is wrong: form, signer, signature."""
    try:
        parts = compact.split(".")
        if len(parts) != 3 or not all(base64url(p) for p in parts):
            raise ValueError("three parts")
        header = document(parse(base64url(parts[0])), {"alg": str, "kid": str, "typ": str})
        if header["alg"] != "EdDSA" or header["typ"] != typ or not is_kid(header["kid"]):
            raise ValueError("header")
    except ValueError as e:
        raise Refused(bad["form"], str(e)) from None
    key = next((k for k in trusted if k["kid"] == header["kid"]), None)
    if key is None:
        raise Refused(bad["signer"], header["kid"])
    try:
        payload = jws.deserialize_compact(compact, OKPKey.import_key(key), algorithms=["EdDSA"]).payload
    except JoseError as e:
        raise Refused(bad["signature"], str(e)) from None
    return payload


def open_announcement(trust, service, payload, now):
    """Section 5, but for seq, which needs a memory."""
    if len(payload.encode()) > 4096:
        raise Refused("refused", "size")
    trusted = trust.get("services", {}).get(service, {"keys": []})["keys"]
    raw = verify(payload, "obo.v1.announcement+jwt", trusted, {"form": "refused", "signer": "worker_untrusted", "signature": "refused"})
    try:
        a = document(parse(raw), ANNOUNCEMENT)
        p256(a["jwk"])
    except ValueError as e:
        raise Refused("refused", str(e)) from None
    thumbprint = hashlib.sha256(json.dumps(dict(sorted(a["jwk"].items())), separators=(",", ":")).encode()).digest()
    if (
        a["iss"] != service or not re.fullmatch("[a-z2-7]{16}", a["sub"]) or a["seq"] < 1 or a["iat"] < 1 or not 0 < a["exp"] - a["iat"] <= 20
        or not is_kid(a["kid"]) or base64url(a["kid"]) != thumbprint or a["state"] not in ("ready", "draining", "gone")
        or a["in_flight"] < 0 or a["capacity"] < 1 or a["max_body"] < 0 or a["key_exp"] < 1
        or len(a["version"].encode()) > 64 or len(a["server"].encode()) > 64
    ):
        raise Refused("refused", "a claim")
    if a["iat"] - LEEWAY > now or now > a["exp"] + LEEWAY:
        raise Refused("clock_skew", "")
    return a


def token_expiry(token):
    """exp of a JWT, None for an opaque token (section 6)."""
    parts = token.split(".")
    try:
        exp = parse(base64url(parts[1]))["exp"] if len(parts) == 3 and all(parts) else None
    except (ValueError, KeyError, TypeError):
        return None
    return int(exp) if type(exp) in (int, float) and 0 <= exp <= 2**40 else None


def check_form(grant):
    """The one spelling of a grant; returns the kid of the key it is for."""
    try:
        parts = grant.split(".")
        if len(grant) > 15_360 or len(parts) != 5 or parts[1] != "":
            raise ValueError("size or parts")
        raw = [base64url(p) for p in parts]
        if len(raw[2]) != 12 or len(raw[4]) != 16 or not raw[3] or len(raw[0]) > 1024:
            raise ValueError("size of a part")
        header = document(parse(raw[0]), {"alg": str, "enc": str, "cty": str, "kid": str, "epk": lambda v: document(v, JWK)})
        if (header["alg"], header["enc"], header["cty"]) != ("ECDH-ES", "A256GCM", "JWT") or not is_kid(header["kid"]):
            raise ValueError("header")
        p256(header["epk"])
    except ValueError as e:
        raise Refused("form", str(e)) from None
    return header["kid"]


class Grant:
    def __init__(self, claims, app, signer):
        self.claims, self.app, self.signer, self.gid = claims, app, signer, read_id(claims["gid"])

    def key(self, label, request_id, salt=b""):
        hkdf = HKDF(SHA256(), 32, salt=None, info=label.encode() + self.gid + read_id(request_id) + salt)
        return hkdf.derive(base64url(self.claims["secret"]))


class Worker:
    """One worker process: sections 6 and 8 up to the burn, and the rules of section 9."""

    def __init__(self, trust, service, instance, keys, opaque=False):
        self.trust, self.service, self.instance, self.keys, self.opaque = trust, service, instance, keys, opaque
        self.kept, self.burned = {}, set()

    def trusted(self, app):
        return self.trust.get("apps", {}).get(app, {"keys": []})["keys"]

    def open_grant(self, grant, app, now):
        kid = check_form(grant)
        if kid not in self.keys:
            raise Refused("key", kid)
        try:
            inner = jwe.decrypt_compact(grant, ECKey.import_key(self.keys[kid]), registry=JWE).plaintext.decode("ascii")
        except (JoseError, ValueError) as e:
            raise Refused("open", str(e)) from None
        raw = verify(inner, "obo.v1.grant+jwt", self.trusted(app), {"form": "header", "signer": "signer", "signature": "signature"})
        signer = parse(base64url(inner.split(".")[0]))["kid"]
        try:
            c = document(parse(raw), GRANT)
            read_id(c["gid"]) if c["gid"] else None
        except ValueError as e:
            raise Refused("header", str(e)) from None
        try:
            secret = base64url(c["secret"])
        except ValueError:
            secret = b""
        expiry = token_expiry(c["token"])
        life = c["exp"] - c["iat"]
        if (
            len(secret) != 32 or not re.fullmatch("[!-~]{1,8000}", c["token"]) or c["iss"] != app or c["aud"] != self.service or c["rkid"] != kid
            or not c["gid"] or c["iat"] < 1 or c["exp"] < 1 or not 0 < life <= (60 if expiry is None else 300)
            or expiry is not None and c["exp"] > expiry or c["iat"] - LEEWAY > now or now > c["exp"] + LEEWAY
            or expiry is None and not self.opaque
        ):
            raise Refused("claims", "")
        return Grant(c, app, signer)

    def take(self, subject, reply, hints, payload, now_ms):
        """A message on a req subject: the head's JSON, the bytes of the body that came with it, and whether that is all."""
        now = now_ms / 1000
        kind, at = read_subject("", subject)
        reply_kind, to = read_subject("", reply)
        if kind != "req" or (at["service"], at["instance"]) != (self.service, self.instance):
            raise Refused("refused", "subject")
        if reply_kind != "rep" or to["app"] != at["app"]:
            raise Refused("refused", "reply subject")
        grant, frame = self.grant_of(payload, at["app"], now)
        kind, seq, plaintext = open_frame(grant.key("obo/1 request", to["id"]), frame)
        if seq != 0 or kind not in (HEAD, WHOLE):
            raise Refused("refused", "no head")
        try:
            raw, body = split_head(plaintext)
            head = document(parse(raw), REQUEST_HEAD)
        except ValueError as e:
            raise Refused("refused", str(e)) from None
        if head["subject"] != subject or head["reply"] != reply:
            raise Refused("refused", "other subjects")
        check_hints(hints, to["id"], head)
        if abs(now_ms - head["iat_ms"]) > LEEWAY * 1000:
            raise Refused("clock_skew")
        if (grant.gid, to["id"]) in self.burned:
            raise Refused("repeated")
        self.burned.add((grant.gid, to["id"]))
        check_request_head(head)
        if kind == WHOLE and head["length"] not in (-1, len(body)):
            raise Refused("bad_request", "length")
        return raw, body, kind == WHOLE

    def grant_of(self, payload, app, now):
        size = int.from_bytes(payload[:2])
        if len(payload) < 2 or size > 15_360 or len(payload) < 2 + (size or 32):
            raise Refused("refused", "size")
        if size:
            sealed, frame = payload[2 : 2 + size], payload[2 + size :]
            digest = hashlib.sha256(sealed).digest()
        else:
            sealed, digest, frame = None, payload[2:34], payload[34:]
        grant = self.kept.get(digest)
        if grant is None and sealed is None:
            raise Refused("grant_unknown")
        if grant is None:
            try:
                grant = self.kept[digest] = self.open_grant(sealed.decode("latin-1"), app, now)
            except Refused as e:
                raise Refused("refused", str(e)) from None
        if grant.app != app or now > grant.claims["exp"] + LEEWAY or grant.claims["rkid"] not in self.keys or grant.signer not in [k["kid"] for k in self.trusted(app)]:
            raise Refused("refused", "the kept grant may not be used")
        return grant, frame


HEAD, WHOLE, DATA, END, INFORM, CREDIT, CANCEL = range(1, 8)


def open_frame(key, frame):
    """Section 7: (type, seq, plaintext)."""
    if not 26 <= len(frame) <= 26 + 65_536:
        raise Refused("refused", "size")
    if frame[0] != 1:
        raise Refused("refused", "version")
    kind, seq = frame[1], int.from_bytes(frame[2:10])
    if not HEAD <= kind <= CANCEL or (kind in (CREDIT, CANCEL)) != (seq >= 1 << 63):
        raise Refused("refused", "type")
    try:
        return kind, seq, AESGCM(key).decrypt(bytes(4) + frame[2:10], frame[10:], frame[:10])
    except InvalidTag:
        raise Refused("refused", "open") from None


def split_head(plaintext):
    size = int.from_bytes(plaintext[:4])
    if len(plaintext) < 4 or size > 32_768 or size > len(plaintext) - 4:
        raise ValueError("the head's length does not fit")
    return plaintext[4 : 4 + size], plaintext[4 + size :]


class Reply:
    """The publisher's end of one request: what comes on its rep subject. state is open, whole, broken, refusal or failure."""

    def __init__(self, grant, request_id):
        self.grant, self.id, self.key = grant, request_id, None
        self.state, self.next, self.control, self.informs, self.received = "open", 0, 0, 0, 0
        self.head, self.body, self.trailer, self.code = None, b"", None, None

    def deliver(self, payload):
        """Takes one message; False: it changed nothing, or broke the stream."""
        try:
            kind, seq, plaintext = self.open(payload)
            if seq >= 1 << 63:
                return self.take_control(kind, seq, plaintext)
            return seq == self.next and self.state == "open" and self.take(kind, plaintext)
        except Refused:
            return False

    def open(self, payload):
        if payload[:1] == b"\2" and len(payload) > 17:
            key = self.key or self.grant.key("obo/1 reply", self.id, payload[1:17])
            opened = open_frame(key, payload[17:])
            self.key = key
            return opened
        if self.key is None:
            raise Refused("refused", "no salt yet")
        return open_frame(self.key, payload)

    def take_control(self, kind, seq, plaintext):
        if seq <= self.control:
            return False
        self.control = seq
        return kind != CREDIT or len(plaintext) == 17 and plaintext[8] < 0x80 and plaintext[16] <= 1

    def take(self, kind, plaintext):
        fits = {INFORM: self.head is None, HEAD: self.head is None, WHOLE: self.head is None}.get(kind, self.head is not None)
        if kind == DATA:
            self.received += len(plaintext)
            fits = fits and 0 < len(plaintext) and self.received <= 65_536
        if not fits:
            self.state = "broken"
            return False
        self.next += 1
        try:
            self.read(kind, plaintext)
        except (ValueError, Refused):
            self.state = "broken"
        return True

    def read(self, kind, plaintext):
        failure = None
        if kind == INFORM:
            if self.informs < 64:  # nobody takes them out here; further ones are passed over
                read_reply_head(plaintext)
                self.informs += 1
        elif kind == DATA:
            self.body += plaintext
        elif kind == END:
            end = read_end(plaintext)
            self.trailer, failure, self.state = end["trailer"], end["failure"], "whole"
        else:
            raw, body = split_head(plaintext)
            head = read_reply_head(raw)
            failure = head["failure"]
            if kind == WHOLE:
                self.state = "whole"
                if head["refusal"]:
                    self.state, self.code = "refusal", head["refusal"]["code"]
            if self.code is None and failure is None:
                self.head, self.body = head, body
        if failure:
            self.state, self.code = "failure", failure["code"]


def unsealed(payload):
    """The code of an unsealed refusal, empty if it is none. It decides nothing."""
    if payload[:1] != b"\0":
        return ""
    code = payload[1:].decode("latin-1")
    return code if code in ("clock_skew", "replay_full", "grant_unknown") else "refused"
