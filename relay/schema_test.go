package relay

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/obo-relay/obo-relay/schemas"
)

// document is one kind of JSON document: its Go type, valid values, and edits that make a valid one bad.
type document struct {
	name  string
	zero  any
	valid map[string]any
	// decode is what this package does with the document: strict decoding, then the checks of its values.
	decode func([]byte) (any, error)
	bad    map[string]func(map[string]any)
	raw    map[string]func(string) string // edits of the text, for what no map can hold
}

func set(path string, value any) func(map[string]any) {
	return func(m map[string]any) {
		names := strings.Split(path, "/")
		for _, n := range names[:len(names)-1] {
			m = m[n].(map[string]any)
		}
		m[names[len(names)-1]] = value
	}
}

func without(path string) func(map[string]any) {
	return func(m map[string]any) {
		names := strings.Split(path, "/")
		for _, n := range names[:len(names)-1] {
			m = m[n].(map[string]any)
		}
		delete(m, names[len(names)-1])
	}
}

type edits = map[string]func(map[string]any)

func documents(t testing.TB) []document {
	subjects, err := NewSubjects("")
	if err != nil {
		t.Fatal(err)
	}
	key := fixedInstanceKey(t, "instance")
	a := fixedAnnouncement()
	a.IssuedAt, a.Expiry = fixedNow.Unix(), fixedNow.Add(AnnouncementLife).Unix()
	a.Key, a.Kid, a.KeyExp = key.Public(), key.Kid(), key.Expiry().Unix()
	draining := a
	draining.State, draining.Seq, draining.InFlight, draining.MaxBody = Draining, 1<<40, 12, 10<<20

	claims := fixedClaims(t)
	opaque := claims
	opaque.Token, opaque.Expiry = "dapi0123456789abcdef", opaque.IssuedAt+60

	id := fixedID("request")
	head := &RequestHead{
		Method: "GET", Path: "/", Header: http.Header{}, Length: 0, IssuedAt: fixedNow.UnixMilli(), TimeoutMS: 30_000,
		Subject: subjects.Request(serviceName, instanceID, appName), Reply: subjects.Reply(appName, fixedID("inbox"), id),
	}
	full := *head
	full.Method, full.Path, full.Query, full.Length = "POST", "/files/a%20b/", "a=1&b=%2F", -1
	full.Header = http.Header{"Content-Type": {"text/plain"}, "X-Bytes": {"caf\xe9 \x80\xff", ""}, "Accept": {"a", "b"}}
	full.Trailer = []string{"X-Checksum"}
	problem := NewError(CodeForbidden, "the policy of this service does not allow it").Problem()
	problem.RequestID = id.String()
	busy := NewError(CodeOverloaded, "64 requests are under way").Problem()
	busy.RetryAfterMS = 1500

	trust := fixedTrustFile()
	kit := Kit{
		Type: KitTypeName, Role: RoleApp, Name: appName, NATS: "tls://nats.example.com:4222",
		NKey: "SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY", Key: fixedIdentity("app ui").Private(),
		Trust: TrustFile{Type: TrustTypeName, Services: trust.Services},
	}
	prefixed := kit
	prefixed.Role, prefixed.NKey, prefixed.SubjectPrefix = RoleService, "", "acme.dev"
	prefixed.Trust = TrustFile{Type: TrustTypeName, Apps: trust.Apps}

	decodeProblem := func(b []byte) (any, error) { p := new(Problem); return p, unmarshalStrict(b, p) }
	long := strings.Repeat("a", MaxToken+1)
	return []document{
		{
			name: AnnouncementTypeName, zero: Announcement{}, valid: map[string]any{"ready": a, "draining": draining},
			decode: func(b []byte) (any, error) {
				var v Announcement
				err := unmarshalStrict(b, &v)
				return v, errors.Join(err, v.check(serviceName))
			},
			bad: edits{
				"unknown-member": set("extra", 1), "iss": set("iss", "Middle_Ware"), "iss-missing": without("iss"),
				"sub-long": set("sub", instanceID+"a"), "sub-alphabet": set("sub", "abcdefghij234561"), "seq-zero": set("seq", 0),
				"seq-negative": set("seq", -1), "seq-text": set("seq", "1"), "iat-missing": without("iat"), "iat-negative": set("iat", -1),
				"exp-fraction": set("exp", 1.5), "jwk-missing": without("jwk"), "jwk-private": set("jwk/d", key.Kid()),
				"jwk-kid": set("jwk/kid", key.Kid()), "jwk-curve": set("jwk/crv", "P-384"), "jwk-kty": set("jwk/kty", "OKP"),
				"jwk-x-short": set("jwk/x", "AAAA"), "jwk-y-missing": without("jwk/y"), "kid-spare-bits": set("kid", key.Kid()[:42]+"B"),
				"key_exp-missing": without("key_exp"), "state": set("state", "busy"), "in_flight": set("in_flight", -1),
				"capacity": set("capacity", 0), "max_body": set("max_body", -1), "version-long": set("version", strings.Repeat("1", 65)),
				"server-long": set("server", strings.Repeat("N", 65)),
			},
		},
		{
			name: GrantTypeName, zero: GrantClaims{}, valid: map[string]any{"jwt": claims, "opaque": opaque},
			decode: func(b []byte) (any, error) {
				var v GrantClaims
				err := unmarshalStrict(b, &v)
				_, _, checked := v.check(appName, serviceName, claims.Rkid, fixedNow)
				return v, errors.Join(err, checked)
			},
			bad: edits{
				"unknown-member": set("nbf", 1), "iss": set("iss", "-ui"), "iss-missing": without("iss"), "aud-array": set("aud", []any{serviceName}),
				"aud-missing": without("aud"), "rkid": set("rkid", "short"), "rkid-missing": without("rkid"), "gid": set("gid", "abc"),
				"gid-spare-bits": set("gid", claims.Gid.String()[:25]+"b"), "gid-missing": without("gid"), "iat-zero": set("iat", 0),
				"iat-missing": without("iat"), "exp-missing": without("exp"), "exp-text": set("exp", "1750000300"),
				"secret-short": set("secret", "AAAA"), "secret-padded": set("secret", claims.Secret+"="), "secret-missing": without("secret"),
				"token-empty": set("token", ""), "token-long": set("token", long), "token-space": set("token", "a b"),
				"token-not-ascii": set("token", "é"), "token-missing": without("token"),
			},
		},
		{
			name: RequestHeadTypeName, zero: RequestHead{}, valid: map[string]any{"get": head, "post": &full},
			decode: func(b []byte) (any, error) {
				v, err := DecodeRequestHead(b)
				if err == nil {
					err = v.Check()
				}
				// The worker compares these with the message, whose subjects have parsed.
				if err == nil && (subjects.Parse(v.Subject).Kind != KindRequest || subjects.Parse(v.Reply).Kind != KindReply || v.IssuedAt == 0) {
					err = errors.New("subject, reply or iat_ms")
				}
				return v, err
			},
			bad: edits{
				"unknown-member": set("host", "example.com"), "method-connect": set("method", "CONNECT"), "method-space": set("method", "GET /"),
				"method-long": set("method", strings.Repeat("M", 33)), "method-missing": without("method"), "path-empty": set("path", ""),
				"path-double-slash": set("path", "//evil.example"), "path-dots": set("path", "/a/../b"), "path-dot": set("path", "/."),
				"path-encoded-dot": set("path", "/a/%2e%2E/b"), "path-encoded-slash": set("path", "/a%2Fb"), "path-query": set("path", "/a?b"),
				"path-nul": set("path", "/a%00"), "path-backslash": set("path", `/a\b`), "path-escape": set("path", "/a%2"),
				"path-long": set("path", "/"+strings.Repeat("a", 8<<10)), "path-absolute": set("path", "http://evil.example/"),
				"query-fragment": set("query", "a#b"), "query-space": set("query", "a b"), "header-case": set("header", map[string]any{"content-type": []any{"a"}}),
				"header-name": set("header", map[string]any{"A B": []any{"a"}}), "header-empty-name": set("header", map[string]any{"": []any{"a"}}),
				"header-crlf": set("header", map[string]any{"A": []any{"a\r\nB: c"}}), "header-nul": set("header", map[string]any{"A": []any{"\x00"}}),
				"header-code-point": set("header", map[string]any{"A": []any{"Ā"}}), "header-text": set("header", map[string]any{"A": "a"}),
				"length": set("length", -2), "length-text": set("length", "1"), "trailer-crlf": set("trailer", []any{"A\r\nB"}),
				"trailer-case": set("trailer", []any{"x-checksum"}), "subject": set("subject", "obo.v1.ctl.middleware."), "reply": set("reply", "$JS.API.STREAM.PURGE.S"),
				"reply-missing": without("reply"), "iat_ms-missing": without("iat_ms"), "timeout-zero": set("timeout_ms", 0),
				"timeout-long": set("timeout_ms", 86_400_001), "timeout-missing": without("timeout_ms"),
			},
			raw: map[string]func(string) string{
				"lone-surrogate": func(s string) string { return strings.Replace(s, `"GET"`, `"\ud800"`, 1) },
			},
		},
		{
			name: ReplyHeadTypeName, zero: ReplyHead{},
			valid: map[string]any{
				"ok":        &ReplyHead{Status: 200, Header: http.Header{"Content-Type": {"text/plain"}}, Length: 5},
				"streaming": &ReplyHead{Status: 200, Header: http.Header{"X-Bytes": {"\xff"}}, Length: -1, Trailer: []string{"Grpc-Status"}},
				"refusal":   &ReplyHead{Status: 403, Header: http.Header{}, Refusal: problem},
				"failure":   &ReplyHead{Status: 500, Header: http.Header{}, Failure: NewError(CodeHandlerFailed, "it panicked").Problem()},
			},
			decode: func(b []byte) (any, error) { return DecodeReplyHead(b) },
			bad: edits{
				"unknown-member": set("reason", "OK"), "status-missing": without("status"), "status-low": set("status", 99), "status-high": set("status", 1000),
				"length": set("length", -2), "header-case": set("header", map[string]any{"x-a": []any{"a"}}),
				"header-crlf": set("header", map[string]any{"A": []any{"a\nB: c"}}), "header-code-point": set("header", map[string]any{"A": []any{"€"}}),
				"trailer-name": set("trailer", []any{"a b"}), "refusal-text": set("refusal", "no"),
				"refusal-and-failure": func(m map[string]any) { m["refusal"], m["failure"] = problem, problem },
			},
		},
		{
			name: EndTypeName, zero: End{},
			valid: map[string]any{
				"empty": &End{}, "trailer": &End{Trailer: http.Header{"Grpc-Status": {"0"}, "X-Bytes": {"\x80"}}},
				"failure": &End{Failure: NewError(CodeUpstreamFailed, "the app closed the connection").Problem()},
			},
			decode: func(b []byte) (any, error) { return DecodeEnd(b) },
			bad: edits{
				"unknown-member": set("trailers", map[string]any{}), "trailer-case": set("trailer", map[string]any{"x-a": []any{"a"}}),
				"trailer-crlf": set("trailer", map[string]any{"A": []any{"a\rb"}}), "trailer-code-point": set("trailer", map[string]any{"A": []any{"Ā"}}),
				"failure-text": set("failure", "no"), "failure-unknown-member": set("failure", map[string]any{"code": "internal", "stack": "main.go"}),
			},
			raw: map[string]func(string) string{"array": func(string) string { return "[]" }},
		},
		{
			name: ProblemTypeName, zero: Problem{}, valid: map[string]any{"forbidden": problem, "overloaded": busy}, decode: decodeProblem,
			bad: edits{
				"unknown-member": set("instance", "/a"), "status-text": set("status", "403"), "code-number": set("code", 7),
				"retry-fraction": set("retry_after_ms", 1.5), "detail-object": set("detail", map[string]any{}),
			},
		},
		{
			name: TrustTypeName, zero: TrustFile{},
			valid: map[string]any{"both": trust, "apps": TrustFile{Type: TrustTypeName, Apps: trust.Apps}, "services": TrustFile{Type: TrustTypeName, Services: trust.Services}},
			decode: func(b []byte) (any, error) {
				var v TrustFile
				if err := unmarshalStrict(b, &v); err != nil {
					return v, err
				}
				_, err := v.Trust()
				return v, err
			},
			bad: edits{
				"unknown-member": set("people", map[string]any{}), "type": set("type", "obo.v2.trust"), "type-missing": without("type"),
				"nobody": func(m map[string]any) { delete(m, "apps"); delete(m, "services") }, "empty": func(m map[string]any) { m["apps"], m["services"] = map[string]any{}, map[string]any{} },
				"name": set("apps/Upper", map[string]any{"keys": trust.Apps[appName].Keys}), "no-keys": set("apps/ui/keys", []any{}),
				"private-key": set("apps/ui/keys", []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "x": kit.Key.X, "d": kit.Key.D, "kid": kit.Key.Kid}}),
				"kid-missing": set("apps/ui/keys", []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "x": kit.Key.X}}),
				"ec-key":      set("apps/ui/keys", []any{key.Public()}), "x-short": set("apps/ui/keys", []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": kit.Key.Kid}}),
				"use": set("apps/ui/keys", []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "x": kit.Key.X, "kid": kit.Key.Kid, "use": "enc"}}),
				"alg": set("apps/ui/keys", []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "x": kit.Key.X, "kid": kit.Key.Kid, "alg": "ES256"}}),
			},
		},
		{
			name: KitTypeName, zero: Kit{}, valid: map[string]any{"app": kit, "service": prefixed},
			decode: func(b []byte) (any, error) {
				k, err := ParseKit(b, RoleApp)
				if err != nil && strings.Contains(err.Error(), "swapped") {
					k, err = ParseKit(b, RoleService)
				}
				return k, err
			},
			bad: edits{
				"unknown-member": set("password", "x"), "type": set("type", "obo.v1.trust"), "role": set("role", "broker"), "name": set("name", "UI"),
				"key-missing": without("key"), "key-public": without("key/d"), "key-d-short": set("key/d", "AA"), "trust-missing": without("trust"),
				"trust-type": set("trust/type", "obo.v1.kit"), "trust-nobody": set("trust", map[string]any{"type": TrustTypeName}),
			},
		},
	}
}

// encode renders a document as this package sends or writes it.
func encode(t testing.TB, v any) []byte {
	t.Helper()
	var b []byte
	var err error
	switch v.(type) {
	case *RequestHead, *ReplyHead, *End:
		b, err = EncodeHead(v)
	default:
		b, err = marshal(v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func canonical(t testing.TB, b []byte) string {
	t.Helper()
	v := jsontext.Value(slices.Clone(b))
	if err := v.Canonicalize(); err != nil {
		t.Fatal(err)
	}
	return string(v)
}

func indent(t testing.TB, b []byte) []byte {
	t.Helper()
	v := jsontext.Value(slices.Clone(b))
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		t.Fatal(err)
	}
	return append(v, '\n')
}

func compileSchemas(t testing.TB) map[string]*jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	for _, name := range schemas.Names() {
		data, err := schemas.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(schemas.Base+name+".json", doc); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]*jsonschema.Schema{}
	for _, name := range schemas.Names() {
		var err error
		if out[name], err = c.Compile(schemas.Base + name + ".json"); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func validate(s *jsonschema.Schema, b []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

func examplePath(document, file string) string {
	return filepath.Join("..", "schemas", "examples", document, file)
}

// Documents of other packages are tested there.
var elsewhere = []string{"obo.v1.audit", "obo.v1.broker", "obo.v1.doctor", "obo.v1.policy", "obo.v1.sql-request"}

func TestSchemaNamesAreTheTypeConstants(t *testing.T) {
	names := slices.Clone(elsewhere)
	for _, d := range documents(t) {
		names = append(names, d.name)
	}
	slices.Sort(names)
	if got := schemas.Names(); !slices.Equal(got, names) {
		t.Errorf("schemas %v, type constants %v", got, names)
	}
}

// A schema's properties are the JSON names of the Go type, and it requires those that the type always writes.
func TestSchemaPropertiesAreTheGoFields(t *testing.T) {
	check := func(at string, schema map[string]any, typ reflect.Type) {
		t.Helper()
		properties := schema["properties"].(map[string]any)
		var required []string
		for _, r := range schema["required"].([]any) {
			required = append(required, r.(string))
		}
		fields := map[string]bool{}
		for f := range typ.Fields() {
			tag, ok := f.Tag.Lookup("json")
			if !ok {
				continue
			}
			name, option, _ := strings.Cut(tag, ",")
			fields[name] = true
			if properties[name] == nil {
				t.Errorf("%s: the schema lacks %s", at, name)
			}
			if optional := option == "omitzero" || option == "omitempty"; optional == slices.Contains(required, name) {
				t.Errorf("%s: %s is optional in one of schema and Go type only", at, name)
			}
		}
		for name := range properties {
			if !fields[name] {
				t.Errorf("%s: the Go type lacks %s", at, name)
			}
		}
	}
	for _, d := range documents(t) {
		data, err := schemas.Read(d.name)
		if err != nil {
			t.Fatal(err)
		}
		var schema map[string]any
		if err := json.Unmarshal(data, &schema); err != nil {
			t.Fatal(err)
		}
		check(d.name, schema, reflect.TypeOf(d.zero))
	}
}

func TestExamples(t *testing.T) {
	compiled := compileSchemas(t)
	for _, d := range documents(t) {
		schema := compiled[d.name]
		var base []byte
		for _, name := range slices.Sorted(maps.Keys(d.valid)) {
			want := encode(t, d.valid[name])
			file := examplePath(d.name, "valid-"+name+".json")
			golden(t, file, indent(t, want))
			b := readFile(t, file)
			if err := validate(schema, b); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			v, err := d.decode(b)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			if got := canonical(t, encode(t, v)); got != canonical(t, b) {
				t.Errorf("%s decodes and encodes to\n%s", file, got)
			}
			if base == nil || name == "post" || name == "both" || name == "streaming" || name == "trailer" {
				base = b
			}
		}
		for _, name := range slices.Sorted(maps.Keys(d.bad)) {
			var m map[string]any
			if err := json.Unmarshal(base, &m); err != nil {
				t.Fatal(err)
			}
			d.bad[name](m)
			b, err := json.Marshal(m, json.Deterministic(true))
			if err != nil {
				t.Fatal(err)
			}
			checkBad(t, d, schema, "bad-"+name+".json", indent(t, b))
		}
		for _, name := range slices.Sorted(maps.Keys(d.raw)) {
			b := d.raw[name](string(readFile(t, examplePath(d.name, "valid-"+slices.Sorted(maps.Keys(d.valid))[0]+".json"))))
			checkBad(t, d, schema, "bad-"+name+".json", []byte(b))
		}
		files, err := filepath.Glob(examplePath(d.name, "*.json"))
		if err != nil || len(files) != len(d.valid)+len(d.bad)+len(d.raw) {
			t.Errorf("%s: %d example files for %d examples", d.name, len(files), len(d.valid)+len(d.bad)+len(d.raw))
		}
	}
}

func checkBad(t *testing.T, d document, schema *jsonschema.Schema, name string, want []byte) {
	t.Helper()
	file := examplePath(d.name, name)
	golden(t, file, want)
	b := readFile(t, file)
	if validate(schema, b) == nil && name != "bad-lone-surrogate.json" { // no schema sees those
		t.Errorf("%s: the schema accepts it", file)
	}
	if _, err := d.decode(b); err == nil {
		t.Errorf("%s: this package accepts it", file)
	}
}

// What every document refuses in the same way, whatever its members mean (PROTOCOL.md §3).
func TestDocumentsAreStrict(t *testing.T) {
	for _, d := range documents(t) {
		for name, v := range d.valid {
			text := string(encode(t, v))
			first, rest, _ := strings.Cut(text[1:], `":`)
			if first == "}" {
				continue // an empty end
			}
			for what, b := range map[string]string{
				"duplicate name":   "{" + first + `":` + strings.TrimSuffix(rest, "}") + "," + text[1:],
				"other case":       "{" + strings.ToUpper(first) + `":` + rest,
				"text after it":    text + "x",
				"second value":     text + "{}",
				"cut off":          text[:len(text)-1],
				"invalid UTF-8":    strings.Replace(text, first, first+"\xff", 1),
				"byte order mark":  "\ufeff" + text,
				"nothing":          "",
				"a trailing comma": strings.TrimSuffix(text, "}") + ",}",
			} {
				if _, err := d.decode([]byte(b)); err == nil {
					t.Errorf("%s (%s): %s is accepted", d.name, name, what)
				}
			}
		}
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
