package relaytest_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

func echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Saw", r.Method+" "+r.URL.RequestURI())
		w.Header().Set("X-Token", fmt.Sprint(len(r.Header.Get("X-Forwarded-Access-Token"))))
		_, _ = io.Copy(w, r.Body)
	})
}

func TestEcho(t *testing.T) {
	var log bytes.Buffer
	n := relaytest.New(t, &log)
	n.Worker(echo(), nil)
	client := &http.Client{Transport: n.Publisher(nil)}
	for _, size := range []int{0, 1, 1000, 32 << 10, 33 << 10, 64 << 10, 5 << 20} {
		body := make([]byte, size)
		_, _ = rand.Read(body)
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://middleware/a/b?x=1;2", bytes.NewReader(body))
		req.Header.Set("X-Forwarded-Access-Token", relaytest.Token("alice", time.Now().Add(time.Hour)))
		start := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%d: %v\n%s", size, err, log.String())
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, body) || resp.StatusCode != 200 {
			t.Fatalf("%d: %v %d bytes, status %d\n%s", size, err, len(got), resp.StatusCode, log.String())
		}
		t.Log(size, time.Since(start), resp.Header)
	}
	if strings.Contains(log.String(), "CANARY") {
		t.Error("token in the log")
	}
}
