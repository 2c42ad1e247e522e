package sandbox

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestABurstOfRefusalsEnds(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	token := mustToken(t, ws, "alice@example.com", TokenOptions{})
	ws.Faults.Add(Fault{Path: "/api/", Times: 2, Status: 503})
	ws.Faults.Add(Fault{Path: "/api/", Times: 1, Status: 429, RetryAfter: 1500 * time.Millisecond})

	for i, want := range []struct {
		status           int
		code, retryAfter string
	}{
		{503, "TEMPORARILY_UNAVAILABLE", ""}, {503, "TEMPORARILY_UNAVAILABLE", ""}, {429, "REQUEST_LIMIT_EXCEEDED", "2"}, {200, "", ""},
	} {
		if other := call(ws, "GET", "/login.html", ""); other.Code != 200 {
			t.Errorf("another path: %d", other.Code)
		}
		rec := call(ws, "GET", mePath, token)
		code, _ := decode(t, rec.Body)["error_code"].(string)
		if rec.Code != want.status || code != want.code || rec.Header().Get("Retry-After") != want.retryAfter {
			t.Errorf("%d: %d %q %v", i, rec.Code, code, rec.Header())
		}
	}
	if n := ws.Calls().To(mePath).By("alice@example.com").Count(); n != 4 {
		t.Errorf("%d calls counted, faults must count too", n)
	}
}

func TestAFaultIsRemovable(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	remove := ws.Faults.Add(Fault{Status: 403, Body: `{"error_code":403,"message":"Invalid access token."}`})
	if rec := call(ws, "GET", mePath, ""); rec.Code != 403 || decode(t, rec.Body)["error_code"] != 403.0 {
		t.Errorf("%d", rec.Code)
	}
	remove()
	remove()
	if rec := call(ws, "GET", mePath, ""); rec.Code != 401 {
		t.Errorf("%d", rec.Code)
	}
	ws.Faults.Add(Fault{Status: 500})
	ws.Faults.Clear()
	if rec := call(ws, "GET", mePath, ""); rec.Code != 401 {
		t.Errorf("%d", rec.Code)
	}
}

func TestASignInRedirect(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	ws.Faults.Add(Fault{Path: mePath, SignIn: true})
	rec := call(ws, "GET", mePath, "")
	if rec.Code != http.StatusFound || rec.Header().Get("Location") != ws.URL()+"/login.html" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

func TestAReset(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	s := serve(t, ws.Listen)
	ws.Faults.Add(Fault{Times: 1, Reset: true})
	c := newProgram(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+mePath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.Do(r); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v %v", resp, err)
	}
	if resp := get(t, c, s.URL()+mePath); resp.StatusCode != 401 {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

func TestADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, _ := newTestWorkspace(t)
		ws.Faults.Add(Fault{Delay: time.Minute})
		start := time.Now()
		if rec := call(ws, "GET", mePath, ""); rec.Code != 401 || time.Since(start) != time.Minute {
			t.Errorf("%d after %v", rec.Code, time.Since(start))
		}

		// A caller that leaves is not waited for.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		defer func() {
			if recover() != http.ErrAbortHandler || time.Since(start) != time.Second {
				t.Errorf("not given up after a second but after %v", time.Since(start))
			}
		}()
		ws.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", mePath, nil))
	})
}
