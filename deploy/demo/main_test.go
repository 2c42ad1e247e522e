package demo

import (
	"bytes"
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Started by the init of a package that the SDK links; never ends.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// play runs the story, with something broken or nothing, and returns what was printed.
func play(t *testing.T, opts Options, breakWorker func(*worker.Config)) (string, error) {
	t.Helper()
	var out bytes.Buffer
	opts.Out, opts.breakWorker = &out, breakWorker
	err := Run(t.Context(), opts)
	return out.String(), err
}

// newStage is a stage that ends with the test.
func newStage(t *testing.T) *Stage {
	t.Helper()
	s, err := Start(t.Context(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// strangersTrust trusts an app of the right name with a key that nobody has.
func strangersTrust(t *testing.T) *relay.Trust {
	t.Helper()
	trust, err := relay.TrustFile{
		Type: relay.TrustTypeName,
		Apps: map[string]relay.JWKS{uiApp: {Keys: []relay.JWK{relay.NewIdentity().Public()}}},
	}.Trust()
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// canceled is a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
