package worker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/obo-relay/obo-relay/relay"
)

// Where a front door answers what of the person's token the platform has brought to it, for obo doctor --direct. The
// platform may treat paths under /api/ differently.
const (
	ProbePath    = RoutesPrefix + "probe"
	ProbePathAPI = "/api" + ProbePath
)

// ProbeAnswer tells whether a token came, and which without showing it.
type ProbeAnswer struct {
	Present bool   `json:"present"`
	Hash    string `json:"hash"` // hex of HMAC-SHA256 of the token, under the caller's salt
}

const (
	minSalt = 16
	maxSalt = 128
)

// HashToken is the hash of a ProbeAnswer.
func HashToken(salt, token string) string {
	mac := hmac.New(sha256.New, []byte(salt))
	_, _ = mac.Write([]byte(token)) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// Probe answers GET with a ProbeAnswer about X-Forwarded-Access-Token. It can be called without a token.
func Probe(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	salt := r.URL.Query().Get("salt")
	if r.Method != http.MethodGet || len(salt) < minSalt || len(salt) > maxSalt {
		Fail(w, relay.Errorf(relay.CodeBadRequest, "want GET with a salt of %d to %d characters", minSalt, maxSalt))
		return
	}
	token := r.Header.Get(relay.HeaderAccessToken)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(ProbeAnswer{token != "", HashToken(salt, token)}) // a caller that left is no fault
}
