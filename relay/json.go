package relay

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// unmarshalStrict decodes a document of ours: names are case-sensitive, an unknown member, a duplicate name, invalid
// UTF-8 or anything after the value is an error (PROTOCOL.md §3). encoding/json forgives all but the last. So does it, and the
// library here, a null in an object's place.
func unmarshalStrict(data []byte, v any) error {
	if jsontext.Value(data).Kind() == 'n' {
		return errors.New("JSON null is no document")
	}
	if err := json.Unmarshal(data, v, json.RejectUnknownMembers(true), readFields); err != nil {
		return jsonError(err)
	}
	return nil
}

// unmarshalOpen decodes a document of somebody else's, of which only some members matter.
func unmarshalOpen(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return jsonError(err)
	}
	return nil
}

// jsonError keeps where the fault is and drops what was there: decoders quote their input, which may be secret.
func jsonError(err error) error {
	if s, ok := errors.AsType[*json.SemanticError](err); ok {
		return errors.New("JSON does not fit at " + pointer(s.JSONPointer))
	}
	if s, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return errors.New("JSON syntax error at " + pointer(s.JSONPointer))
	}
	return errors.New("not a JSON document")
}

// pointer shortens a JSON pointer: its tokens are member names, which a sender chooses.
func pointer(p jsontext.Pointer) string {
	const most = 64
	if p == "" {
		return "the top level"
	}
	if len(p) > most {
		p = p[:most] + "…"
	}
	return string(p)
}

func marshal(v any) ([]byte, error) { return json.Marshal(v, json.Deterministic(true), writeFields) }

// decodeBase64 is base64url without padding (RFC 7515 §2), canonical: no spare bits, no white space. It refuses what
// re-encodes to something else, because two spellings of one sealed object would be two objects.
func decodeBase64(s string) ([]byte, error) {
	for i := range len(s) {
		if s[i] == '\n' || s[i] == '\r' { // encoding/base64 skips these even in strict mode
			return nil, errors.New("base64url: line break")
		}
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

func encodeBase64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// PrettyJSON renders a document of ours as it is written to files.
func PrettyJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	if err := json.MarshalWrite(&buf, v, json.Deterministic(true), jsontext.WithIndent("  ")); err != nil {
		return nil, err
	}
	_, err := io.WriteString(&buf, "\n")
	return buf.Bytes(), err
}
