package worker

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A cancel that the workspace refuses ends nothing, and is told as one that does not get through; of a statement that has ended
// by itself there is nothing to tell.
func TestSQLCancelThatIsRefusedIsTold(t *testing.T) {
	for status, told := range map[int]bool{200: false, 404: false, 401: true, 403: true} {
		calls := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls++
			w.WriteHeader(status)
		}))
		workspace, err := NewWorkspace(WorkspaceConfig{Host: server.URL})
		must(t, err)
		log := &lockedBuffer{}
		statement := &sqlStatement{workspace: workspace, token: aliceToken(t), log: slog.New(slog.NewTextHandler(log, nil)), id: "1"}
		statement.cancel(t.Context())
		workspace.Close()
		server.Close()
		if text := log.take(); strings.Contains(text, "a statement that nobody waits for could not be canceled") != told || calls != 1 {
			t.Errorf("%d: %d calls, logged %q", status, calls, text)
		}
	}
}
