package doctor

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// A report that was cut short would blame whom it did not wait for; one that cannot be written is no success.
func TestNoHalfReports(t *testing.T) {
	for _, json := range []bool{false, true} {
		c := Command{Path: "/", JSON: json}
		if _, err := c.Execute(t.Context(), Terminal{Stdout: full{}, Stderr: io.Discard}); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("json %v: %v", json, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out strings.Builder
		if status, err := c.Execute(ctx, Terminal{Stdout: &out, Stderr: io.Discard}); status == 0 || err == nil || out.Len() > 0 {
			t.Errorf("json %v: status %d, %v, %q", json, status, err, out.String())
		}
	}
}
