package sandbox

import (
	"context"
	"net/http"
	"sync"
	"testing"
)

func TestListenServesAndSetsTheURL(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	s := serve(t, ws.Listen)
	if s.URL() != ws.URL() {
		t.Errorf("%q, but the workspace says %q", s.URL(), ws.URL())
	}
	if resp := get(t, newProgram(t), s.URL()+"/login.html"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if _, err := ws.Listen(s.listener.Addr().String()); err == nil {
		t.Error("listened twice on one port")
	}
}

func TestCloseMayComeOftenAndAtOnce(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	s, err := ws.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := http.Get(s.URL()); err == nil {
		t.Error("still serving")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	s, err := ws.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	if resp := get(t, newProgram(t), s.URL()+"/login.html"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
