package relay

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	stdjson "encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Vectors of other people, run through the functions that publisher and worker use. Wycheproof's come with the Go module
// that testdata/wycheproof/go.mod pins; no go.mod of a program names it.

type wycheproofFile struct {
	NumberOfTests int `json:"numberOfTests"`
	TestGroups    []struct {
		Comment string             `json:"comment"`
		Private stdjson.RawMessage `json:"private"` // a JWK in the JOSE files
		Tests   []wycheproofCase   `json:"tests"`
	} `json:"testGroups"`
}

type wycheproofCase struct {
	ID      int        `json:"tcId"`
	Comment string     `json:"comment"`
	Result  string     `json:"result"` // valid, invalid, acceptable
	JWS     serialized `json:"jws"`
	JWE     serialized `json:"jwe"`
	PT      string     `json:"pt"`

	IKM, Salt, Info, OKM    string
	Size                    int
	Public, Private, Shared string
}

// serialized is the compact form, or else the JSON text of the JSON form, which obo does not know.
type serialized string

func (s *serialized) UnmarshalJSON(b []byte) error {
	var text string
	if stdjson.Unmarshal(b, &text) != nil {
		text = string(b)
	}
	*s = serialized(text)
	return nil
}

// wycheproof reads a file of the module, which the Go command fetches where it is not in the cache.
func wycheproof(t *testing.T, name string) wycheproofFile {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/c2sp/wycheproof")
	cmd.Dir, cmd.Stderr = filepath.Join("testdata", "wycheproof"), os.Stderr
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the vectors cannot be fetched: %v\n%s", err, out)
	}
	var module struct{ Dir string }
	if err := stdjson.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	var f wycheproofFile
	if err := stdjson.Unmarshal(readFile(t, filepath.Join(module.Dir, "testvectors_v1", name)), &f); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range f.TestGroups {
		n += len(g.Tests)
	}
	if n == 0 || n != f.NumberOfTests {
		t.Fatalf("%s: %d of %d tests", name, n, f.NumberOfTests)
	}
	return f
}

// outsideRefused is what Wycheproof calls valid and obo refuses, with the reason. All of it is refused: obo knows one
// algorithm, one header and one spelling each.
type outsideRefused struct {
	File   string `json:"file"`
	ID     int    `json:"tcId"`
	Name   string `json:"name"`
	Alg    string `json:"alg"` // of the header, so the reason behind the reason
	Reason string `json:"reason"`
}

func TestWycheproofJOSE(t *testing.T) {
	opener, trust := fixedOpener(t), fixedTrust(t)
	var refused []outsideRefused
	opened := 0
	for _, name := range []string{"json_web_signature_test.json", "json_web_encryption_test.json", "json_web_crypto_test.json", "json_web_key_test.json"} {
		for _, g := range wycheproof(t, name).TestGroups {
			var key jose.JSONWebKey
			_ = key.UnmarshalJSON(g.Private) // not every group has one key, and not every key is one: what is not stays empty
			ec, _ := key.Key.(*ecdsa.PrivateKey)
			for _, c := range g.Tests {
				label := fmt.Sprintf("%s %d %s %s", name, c.ID, g.Comment, c.Comment)
				var err error
				switch {
				case c.JWE == "": // a JWS, if only an empty one
					var claims GrantClaims
					_, err = trust.verify(string(c.JWS), GrantTypeName+"+jwt", RoleApp, appName, &claims)
					if payload, err := verifyJWS(string(c.JWS), ed25519.NewKeyFromSeed(seed("app ui")).Public().(ed25519.PublicKey)); err == nil {
						t.Errorf("%s: verified as %q", label, payload)
					}
				default:
					_, err = opener.Open(string(c.JWE), appName, fixedNow)
					if ec == nil {
						break
					}
					// Behind the check of the form, the function that opens opens the valid ones of our algorithms only.
					plaintext, openErr := openJWE(string(c.JWE), ec)
					ours := c.Result == "valid" && headerOf(c.JWE)["alg"] == "ECDH-ES" && headerOf(c.JWE)["enc"] == "A256GCM"
					if (openErr == nil) != ours || ours && hex.EncodeToString(plaintext) != c.PT {
						t.Errorf("%s: opened to %q, %v", label, plaintext, openErr)
					}
					if ours {
						opened++
					}
				}
				if err == nil {
					t.Errorf("%s: accepted", label)
				} else if c.Result == "valid" {
					alg, _ := headerOf(c.JWS + c.JWE)["alg"].(string)
					refused = append(refused, outsideRefused{name, c.ID, g.Comment + " " + c.Comment, alg, err.Error()})
				}
			}
		}
	}
	if opened == 0 {
		t.Error("no vector of our algorithms was opened")
	}
	b, err := PrettyJSON(refused)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "wycheproof", "refused.json"), b)
}

func headerOf(compact serialized) map[string]any {
	part, _, _ := strings.Cut(string(compact), ".")
	raw, _ := decodeBase64(part)
	var header map[string]any
	_ = stdjson.Unmarshal(raw, &header)
	return header
}

// ECDH on P-256 with the edge cases of Wycheproof as ephemeral keys of a grant: a point that is none is refused by its
// form, and the others lead to the very key that the vector says, also where it begins with zeros.
func TestWycheproofECDHInGrants(t *testing.T) {
	done := map[bool]int{}
	for _, g := range wycheproof(t, "ecdh_secp256r1_ecpoint_test.json").TestGroups {
		for _, c := range g.Tests {
			point := unhex(t, c.Public)
			if len(point) != 65 || point[0] != 4 {
				continue // compressed points and no points: a JWK has no way to write them
			}
			d := unhex(t, strings.TrimPrefix(c.Private, "00"))
			private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 32-len(d)), d...))
			if err != nil {
				t.Fatalf("%d: %v", c.ID, err)
			}
			key, err := instanceKeyOf(private, fixedNow)
			if err != nil {
				t.Fatal(err)
			}
			epk, err := marshal(JWK{Kty: "EC", Crv: "P-256", X: encodeBase64(point[1:33]), Y: encodeBase64(point[33:])})
			if err != nil {
				t.Fatal(err)
			}
			compact := jwe{
				header:    `{"alg":"ECDH-ES","enc":"A256GCM","cty":"JWT","kid":"` + key.Kid() + `","epk":` + string(epk) + `}`,
				shared:    unhex(t, c.Shared),
				plaintext: "agreed",
			}.seal(t, key)
			_, err = checkGrantForm(compact)
			if valid := c.Result == "valid"; (err == nil) != valid {
				t.Errorf("%d %s, %s: %v", c.ID, c.Comment, c.Result, err)
			} else if valid {
				if plaintext, err := openJWE(compact, private); err != nil || string(plaintext) != "agreed" {
					t.Errorf("%d %s: %q %v", c.ID, c.Comment, plaintext, err)
				}
			} else if plaintext, err := openJWE(compact, private); err == nil {
				t.Errorf("%d %s: opened to %q", c.ID, c.Comment, plaintext)
			}
			done[err == nil]++
		}
	}
	if done[true] < 100 || done[false] < 5 {
		t.Errorf("%d valid, %d invalid points", done[true], done[false])
	}
}

// RFC 5869 by the vectors of its appendix A and of Wycheproof, as far as obo goes: SHA-256 and one block of output.
func TestHKDFVectors(t *testing.T) {
	tests := []wycheproofCase{ // RFC 5869 A.1 to A.3, of which only the first block is ours
		{Comment: "A.1", IKM: strings.Repeat("0b", 22), Salt: "000102030405060708090a0b0c", Info: "f0f1f2f3f4f5f6f7f8f9", OKM: "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"},
		{Comment: "A.3", IKM: strings.Repeat("0b", 22), OKM: "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"},
	}
	var ikm, salt, info []byte
	for i := range 80 {
		ikm, salt, info = append(ikm, byte(i)), append(salt, byte(0x60+i)), append(info, byte(0xb0+i))
	}
	tests = append(tests, wycheproofCase{Comment: "A.2", IKM: hex.EncodeToString(ikm), Salt: hex.EncodeToString(salt), Info: hex.EncodeToString(info), OKM: "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"})
	for _, g := range wycheproof(t, "hkdf_sha256_test.json").TestGroups {
		for _, c := range g.Tests {
			if c.Result == "valid" {
				tests = append(tests, c)
			}
		}
	}
	noSalt := 0
	for _, c := range tests {
		okm := unhex(t, c.OKM)
		okm = okm[:min(len(okm), sha256.Size)]
		prk, err := hkdf.Extract(sha256.New, unhex(t, c.IKM), unhex(t, c.Salt))
		if err != nil {
			t.Fatal(err)
		}
		keys := newKeySource(unhex(t, c.IKM), ID{})
		if c.Salt == "" {
			noSalt++ // as obo does it, the extract step too
		} else {
			keys.prk = func() *[sha256.Size]byte { return (*[sha256.Size]byte)(prk) }
		}
		if got := keys.derivers.Get().(*deriver).expand(unhex(t, c.Info)); string(got[:len(okm)]) != string(okm) {
			t.Errorf("%d %s: %x, want %x", c.ID, c.Comment, got, okm)
		}
	}
	if len(tests) < 50 || noSalt < 3 {
		t.Errorf("%d vectors, %d without salt", len(tests), noSalt)
	}
}

// RFC 8037 appendix A.4 and A.5: the example signature is right, and its header is not one of ours.
func TestSignatureOfRFC8037(t *testing.T) {
	const compact = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	public, err := JWK{Kty: "OKP", Crv: "Ed25519", X: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}.ed25519()
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := verifyJWS(compact, public); err != nil || string(payload) != "Example of Ed25519 signing" {
		t.Errorf("%q %v", payload, err)
	}
	if payload, err := verifyJWS(strings.Replace(compact, "RXhh", "RXhi", 1), public); err == nil {
		t.Errorf("a changed payload verifies: %q", payload)
	}
	if _, err := checkJWSForm(compact, GrantTypeName+"+jwt"); err == nil {
		t.Error("a header with alg alone is accepted")
	}
}

// RFC 7638 section 3.1 has an RSA key, and obo has none. What it says of the form, and RFC 7520's P-256 key, are compared
// with go-jose's thumbprint.
func TestThumbprintsOfRFC7520(t *testing.T) {
	const meriadoc = `{"kty":"EC","kid":"meriadoc.brandybuck@buckland.example","use":"enc","crv":"P-256","x":"Ze2loSV3wrroKUN_4zhwGhCqo3Xhu1td4QjeQ5wIVR0","y":"HlLtdXARY_f55A3fnzQbPcm6hgr34Mp8p-nuzQCE0Zw"}`
	var theirs jose.JSONWebKey
	if err := theirs.UnmarshalJSON([]byte(meriadoc)); err != nil {
		t.Fatal(err)
	}
	want, err := theirs.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var ours JWK
	if err := unmarshalStrict([]byte(meriadoc), &ours); err != nil || ours.Thumbprint() != encodeBase64(want) {
		t.Errorf("%s, want %s: %v", ours.Thumbprint(), encodeBase64(want), err)
	}
	if _, err := ours.p256(); err == nil {
		t.Error("a public key with members that an announcement does not have is accepted")
	}
	ours.Kid, ours.Use = "", ""
	if _, err := ours.p256(); err != nil {
		t.Error(err)
	}
	const rsa = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	if err := unmarshalStrict([]byte(rsa), &ours); err == nil {
		t.Error("an RSA key is read")
	}
}
