package worker

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// An app may refuse an upload by its head and close the connection, which resets it under the rest. What it said arrives: one
// answer in twenty did not.
func TestAnswerBeforeAConnectionThatIsReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	h := testForward(t, l.Addr().String())
	const all = 300
	lost := 0
	for range all {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/", io.LimitReader(zeros{}, 3<<20)))
		if w.Code != http.StatusRequestEntityTooLarge || w.Body.String() != "no" {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d answers of %d were lost", lost, all)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
