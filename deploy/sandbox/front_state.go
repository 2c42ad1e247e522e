package sandbox

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"
)

// stateLifetime is the time a person has to choose on the sign-in page.
const stateLifetime = 10 * time.Minute

// states makes and opens the OAuth state parameter (RFC 6749 section 10.12). It
// is authenticated, so that it can carry where to return to, and bound to the
// browser by a nonce in a cookie, so that nobody can sign someone else in as
// himself. Nothing is remembered: a caller that never signs in costs nothing.
type states struct {
	now func() time.Time
	key []byte
}

type state struct {
	Next    string `json:"n"`
	Browser string `json:"b"`
	Expiry  int64  `json:"e"` // Unix seconds
}

func newStates(now func() time.Time) *states {
	return &states{now: now, key: []byte(rand.Text())}
}

// seal returns the parameter, and the browser's nonce, new if there was none.
func (s *states) seal(next, browser string) (parameter, nonce string) {
	if browser == "" {
		browser = rand.Text()
	}
	body, _ := json.Marshal(state{next, browser, s.now().Add(stateLifetime).Unix()}) // strings and a number
	return base64.RawURLEncoding.EncodeToString(append(s.mac(body), body...)), browser
}

// open returns where to go next, if the parameter is ours, this browser's and
// not too old.
func (s *states) open(parameter, browser string) (next string, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(parameter)
	if err != nil || len(raw) < sha256.Size || !hmac.Equal(raw[:sha256.Size], s.mac(raw[sha256.Size:])) {
		return "", false
	}
	var st state
	if err := json.Unmarshal(raw[sha256.Size:], &st); err != nil {
		return "", false
	}
	if st.Browser == "" || !hmac.Equal([]byte(st.Browser), []byte(browser)) || s.now().Unix() >= st.Expiry {
		return "", false
	}
	return st.Next, true
}

func (s *states) mac(body []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write(body)
	return h.Sum(nil)
}
