package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// Of results with a large row only so many are read at a time; small rows pass them by, and who has waited reads on.
func TestLargeRowsWait(t *testing.T) {
	large, alice := newLargeSlots(), person{"ui", 1}
	ended, end := context.WithCancel(t.Context())
	end()
	read := func(ctx context.Context, whose person, n int64) (*rowRoom, error) {
		room := newRowRoom(ctx, large, whose)
		_, err := io.Copy(io.Discard, bounded{io.LimitReader(endless{}, n), room})
		return room, err
	}
	var rooms []*rowRoom
	for i, c := range []struct {
		whose person
		waits bool
	}{{alice, false}, {alice, false}, {alice, true}, {person{"ui", 2}, false}, {person{"ui", 3}, true}, {person{"other", 4}, false}, {person{"other", 5}, true}} {
		room, err := read(ended, c.whose, largeRow+1) // where it has to wait it ends
		if errors.Is(err, context.Canceled) != c.waits || err != nil && !c.waits {
			t.Errorf("%d: %v", i, err)
		}
		rooms = append(rooms, room)
	}
	small := newRowRoom(ended, large, alice)
	for range 4 {
		small.next()
		_, err := io.Copy(io.Discard, bounded{io.LimitReader(endless{}, largeRow-64<<10), small})
		must(t, err)
	}
	waited := make(chan error)
	go func() {
		room, err := read(t.Context(), alice, 2*largeRow)
		room.release()
		waited <- err
	}()
	for _, room := range rooms {
		room.release()
	}
	must(t, <-waited)
	room, err := read(t.Context(), alice, maxRow+1)
	if err == nil || !strings.Contains(err.Error(), "a row is over 64 MiB") {
		t.Errorf("too large: %v", err)
	}
	room.release()
	if large.taken != 0 || large.queued != 0 {
		t.Error("room was not given back")
	}
}

// Inline the rows come with a statement's state too, where they are passed over, and a value is held all the same.
func TestLargeRowsOfAStateWait(t *testing.T) {
	value := strings.Repeat("x", largeRow-64<<10)
	rows := map[string]string{"small": `["` + value + `"],["` + value + `"]`, "large": `["` + value + value + `"]`}
	for name, data := range rows {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"status":{"state":"SUCCEEDED"},"result":{"data_array":[`+data+`]}}`)
		}))
		t.Cleanup(server.Close)
		workspace, err := NewWorkspace(WorkspaceConfig{Host: server.URL})
		must(t, err)
		t.Cleanup(workspace.Close)
		large, alice := newLargeSlots(), person{"ui", 1}
		must(t, large.acquire(t.Context(), alice))
		must(t, large.acquire(t.Context(), alice))
		room := newRowRoom(t.Context(), large, alice)
		statement := &sqlStatement{workspace: workspace, token: aliceToken(t), log: slog.New(slog.DiscardHandler), id: "1"}
		done := make(chan *relay.Error, 1)
		go func() {
			_, e := statement.await(t.Context(), room)
			done <- e
		}()
		waits := false
		for over := false; !over && !waits; runtime.Gosched() {
			waits = large.waiting() > 0
			over = len(done) > 0
		}
		if waits != (name == "large") {
			t.Errorf("%s: waits %v", name, waits)
		}
		large.release(alice)
		if e := <-done; e != nil {
			t.Errorf("%s: %v", name, e)
		}
		room.release()
		large.release(alice)
		if large.taken != 0 {
			t.Errorf("%s: room was not given back", name)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
