package demo

import (
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/obo-relay/obo-relay/relay"
)

// tokens remembers every token that came to the UI app, to search for them afterwards.
type tokens struct {
	mu   sync.Mutex
	seen map[string]bool
}

func newTokens() *tokens { return &tokens{seen: map[string]bool{}} }

// maxTokens bounds the memory of a stage that stays up.
const maxTokens = 1000

func (t *tokens) add(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if token != "" && len(t.seen) < maxTokens {
		t.seen[token] = true
	}
}

func (t *tokens) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.seen))
}

func (t *tokens) note(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.add(r.Header.Get(relay.HeaderAccessToken))
		next.ServeHTTP(w, r)
	})
}
