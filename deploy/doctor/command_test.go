package doctor

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
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

// Whoever puts a secret where the name of its file belongs does not find it in the report.
func TestSecretInPlaceOfAFileName(t *testing.T) {
	const seed = "SUAHWAFMZCO5LRPD566X7O5S42GUMQT6EYTICQB2EBZP655R65NFGHFTK4"
	file := filepath.Join(t.TempDir(), "key.json")
	relaytest.Must(t, os.WriteFile(file, nil, 0o600))
	text := Run(t.Context(), Config{Environ: []string{"OBO_NKEY_FILE=" + seed, "OBO_KEY_FILE=" + file}}).text()
	if strings.Contains(text, seed) || !strings.Contains(text, "OBO_KEY_FILE="+file+" OBO_NKEY_FILE=set") {
		t.Error(text)
	}
}

// A pipe into which nobody writes does not keep the command from being stopped.
func TestInterruptedWhileReadingStdin(t *testing.T) {
	silent, end := io.Pipe()
	defer end.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := Command{Path: "/", TokenFile: "-"}
	if _, err := c.Execute(ctx, Terminal{Stdin: silent, Stdout: io.Discard, Stderr: io.Discard}); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Error(err)
	}
}
