package sandbox

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// socket answers an upgrade and echoes, as far as a proxy can tell.
func socket(t *testing.T) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, buf) // until the proxy cuts it
	}
}

func TestWebSocketsAreCutWhereAsked(t *testing.T) {
	s := newStage(t, socket(t), func(c *FrontConfig) { c.CutWebSocketsAfter = 50 * time.Millisecond })
	token := mustToken(t, s.ws, "alice@example.com", TokenOptions{})
	resp := get(t, newProgram(t), s.door+"/api/x", "Authorization", "Bearer "+token, "Connection", "Upgrade", "Upgrade", "websocket")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	if n, err := resp.Body.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes of a WebSocket that was to be cut", n)
	}
}

func TestBearerOnlyUnderAPI(t *testing.T) {
	s := newStage(t, echo(), func(c *FrontConfig) { c.BearerOnlyAPI = true })
	token := mustToken(t, s.ws, "alice@example.com", TokenOptions{})
	for path, want := range map[string]int{"/api/x": http.StatusOK, "/x": http.StatusFound, "/": http.StatusFound, "/apix": http.StatusFound} {
		if resp := get(t, newProgram(t), s.door+path, "Authorization", "Bearer "+token); resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
}
