//go:build unix

package child

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"
)

func testConfig(words ...string) Config {
	return Config{Words: words, Env: os.Environ(), Log: slog.New(slog.DiscardHandler)}
}

// readyAt is a readiness that is given at once, beside a child that does not listen.
func readyAt(t *testing.T) Readiness {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return Readiness{URL: u}
}

func TestRunServerStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	drained := false
	status, err := RunServer(ctx, testConfig("sleep", "60"), readyAt(t), func(serving context.Context) error {
		cancel()
		<-serving.Done()
		drained = true
		return nil
	})
	if status != 143 || err != nil || !drained {
		t.Errorf("status %d, %v, drained %v", status, err, drained)
	}
}

func TestRunClientStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	up := make(chan struct{})
	status, err := RunClient(ctx, testConfig("sleep", "60"), up, func(serving context.Context) error {
		close(up)
		cancel()
		<-serving.Done()
		return nil
	})
	if status != 143 && status != 0 || err != nil { // 0: stopped before the child was started
		t.Errorf("status %d, %v", status, err)
	}
}

func TestNothingStartsAfterTheEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(context.Context) error { return errors.New("it served") }
	for name, run := range map[string]func() (int, error){
		"server": func() (int, error) { return RunServer(ctx, testConfig("false"), readyAt(t), never) },
		"client": func() (int, error) { return RunClient(ctx, testConfig("false"), nil, never) },
	} {
		if status, err := run(); status != 0 || err != nil {
			t.Errorf("%s: status %d, %v", name, status, err)
		}
	}
}

func TestAFaultAfterTheChildIsTold(t *testing.T) {
	t.Parallel()
	fault := errors.New("cannot drain")
	up := make(chan struct{})
	close(up)
	for words, want := range map[string]int{"true": 1, "false": 1} {
		status, err := RunClient(t.Context(), testConfig(words), up, func(serving context.Context) error {
			<-serving.Done()
			return fault
		})
		if status != want || !errors.Is(err, fault) {
			t.Errorf("%s: status %d, %v", words, status, err)
		}
	}
}
