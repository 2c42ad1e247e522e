package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

// seedFile writes a NATS user's seed where nats.NkeyOptionFromSeed reads it.
func seedFile(tb testing.TB, u relaytest.User) string {
	path := filepath.Join(tb.TempDir(), "user.nk")
	relaytest.Must(tb, os.WriteFile(path, []byte(u.Seed), 0o600))
	return path
}
