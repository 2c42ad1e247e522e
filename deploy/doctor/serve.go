package doctor

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// Handler looks once for each GET of /, with the token of that request: it takes the place of an app for a moment, to see
// what the platform hands to it. Accept: application/json asks for the document. It also answers what arrived, for another
// app's --direct.
func Handler(cfg Config) http.Handler {
	var one sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == worker.ProbePath || r.URL.Path == worker.ProbePathAPI {
			worker.Probe(w, r)
			return
		}
		if r.URL.Path != "/" || r.Method != http.MethodGet {
			http.NotFound(w, r)
			return
		}
		one.Lock()
		defer one.Unlock()
		c := cfg
		c.Token, c.TokenFrom = r.Header.Get(relay.HeaderAccessToken), "this request's "+relay.HeaderAccessToken
		report := Run(r.Context(), c)
		w.Header().Set("Cache-Control", "no-store")
		if strings.Contains(r.Header.Get("Accept"), "application/json") {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(report) // a caller that left is no fault
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		report.Print(w)
	})
}
