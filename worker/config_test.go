package worker

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Databricks Apps kill 15 s after the signal: by then those whose requests are broken off must have been told, and the
// process must have ended.
func TestDrainEndsBeforeThePlatformKills(t *testing.T) {
	const patience = 15 * time.Second
	if most := (Config{}).withDefaults().DrainTimeout + settleTime + lastWord; most >= patience {
		t.Errorf("a drain takes up to %v", most)
	}
}

// A publisher refuses an announcement with a longer version (PROTOCOL.md §5), so the worker would be there for nobody.
func TestVersionThatNobodyWouldBelieve(t *testing.T) {
	trust, err := relay.TrustFile{Type: relay.TrustTypeName, Apps: map[string]relay.JWKS{"ui": {Keys: []relay.JWK{relay.NewIdentity().Public()}}}}.Trust()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Service: "middleware", Identity: relay.NewIdentity(), Trust: trust, Handler: http.NotFoundHandler(),
		NATS: relay.ConnectConfig{URL: "nats://127.0.0.1"}, Version: strings.Repeat("v", 64),
	}
	if _, err := New(cfg); err != nil {
		t.Error(err)
	}
	cfg.Version += "v"
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "version has 65 bytes") {
		t.Errorf("65 bytes: %v", err)
	}
}
