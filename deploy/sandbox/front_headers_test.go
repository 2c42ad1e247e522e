package sandbox

import (
	"maps"
	"net/http"
	"slices"
	"testing"
)

func TestKeepAllowed(t *testing.T) {
	h := http.Header{
		"Accept": {"a"}, "Content-Type": {"b"}, "Traceparent": {"c"}, "X-Mine": {"d"},
		"Authorization": {"e"}, "X-User-Token": {"f"}, "X-Forwarded-Email": {"g"}, "X-Forwarded-For": {"h"},
		"Forwarded": {"i"}, "X-Real-Ip": {"j"}, "X_forwarded_email": {"k"}, "x-forwarded-email": {"l"}, "Idempotency-Key": {"m"},
	}
	keepAllowed(h, allowedHeaders([]string{"x-mine", "authorization", "x-forwarded-email", "X-REAL-IP"}))
	if got := slices.Sorted(maps.Keys(h)); !slices.Equal(got, []string{"Accept", "Content-Type", "Traceparent", "X-Mine"}) {
		t.Errorf("%v", got)
	}
}

func TestAllowedHeadersAreCanonical(t *testing.T) {
	for name := range allowedHeaders(nil) {
		if http.CanonicalHeaderKey(name) != name || PlatformHeader(name) {
			t.Errorf("%q", name)
		}
	}
}

func TestOwnCookiesAreDropped(t *testing.T) {
	f := &Front{app: App{Name: "ui"}}
	for in, want := range map[string]string{
		"sandbox_session_ui=s":                               "",
		"a=1; sandbox_session_ui=s; sandbox_state_ui=t; b=2": "a=1; b=2",
		"sandbox_session_middleware=x; =; ;c=\"q\"":          "sandbox_session_middleware=x; c=\"q\"",
		"a=1": "a=1",
	} {
		r := &http.Request{Header: http.Header{"Cookie": {in}}}
		f.dropOwnCookies(r)
		if got := r.Header.Get("Cookie"); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	// A session cookie hidden in a second line.
	r := &http.Request{Header: http.Header{"Cookie": {"a=1", "sandbox_session_ui=s"}}}
	f.dropOwnCookies(r)
	if got := r.Header["Cookie"]; !slices.Equal(got, []string{"a=1"}) {
		t.Errorf("%v", got)
	}
}
