package demo

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/obo-relay/obo-relay/worker"
)

func TestStory(t *testing.T) {
	out, err := play(t, Options{}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"bob: GET /admin/report             403", "is not a member of workspace", "Received on \"obo.v1.req.middleware.",
		"0 hits in", "All 29 lines came out as the story says",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "FAIL") || strings.Contains(out, "\x1b") {
		t.Errorf("a failure, or colour that was not asked for, in\n%s", out)
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}

func TestStoryInColor(t *testing.T) {
	out, err := play(t, Options{Color: true}, nil)
	if err != nil || !strings.Contains(out, "\x1b[32mok  \x1b[0m") {
		t.Errorf("%v: no green in\n%s", err, out)
	}
}

// A broken piece is told by the lines that it concerns, and by the result.
func TestBroken(t *testing.T) {
	for name, test := range map[string]struct {
		broken func(*testing.T, *worker.Config)
		want   string
	}{
		"worker that trusts another key": {
			func(t *testing.T, c *worker.Config) { c.Trust = strangersTrust(t) }, "refused_unverified",
		},
		"worker that does not look people up": {
			func(_ *testing.T, c *worker.Config) { c.Lookup, c.Policy = nil, nil }, "expected alice@example.com, with the token",
		},
		"handler that loses the token": {
			func(_ *testing.T, c *worker.Config) {
				next := c.Handler
				c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Header.Del("X-Forwarded-Access-Token")
					next.ServeHTTP(w, r)
				})
			}, "no person's token arrived",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := play(t, Options{}, func(c *worker.Config) { test.broken(t, c) })
			unwrapped := strings.Join(strings.Fields(out), " ")
			if !errors.Is(err, ErrStory) || !strings.Contains(unwrapped, test.want) || !strings.Contains(out, "FAIL") {
				t.Errorf("%v, want ErrStory and %q in\n%s", err, test.want, out)
			}
		})
	}
}

func TestStageFails(t *testing.T) {
	t.Parallel()
	if _, err := Start(canceled(), Config{}); err == nil {
		t.Error("a stage was set although its context had ended")
	}
	out, err := play(t, Options{}, func(c *worker.Config) { c.Trust = nil })
	if err == nil || !strings.Contains(err.Error(), "no trust") || strings.Contains(out, "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestStageClosesTwice(t *testing.T) {
	s := newStage(t)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
