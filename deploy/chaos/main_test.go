package chaos

import (
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start")) // the SDK's, never ends
}

// long reports whether the long versions are asked for.
func long() bool { return os.Getenv("OBO_LONG") != "" }

// pick is the size of a test: the short one by default.
func pick[T any](t testing.TB, short, whole T) T {
	t.Helper()
	if long() {
		return whole
	}
	t.Logf("short version: %v instead of %v; OBO_LONG=1 runs the long one", short, whole)
	return short
}

// number is a positive number from the environment.
func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a positive number", name, text)
	}
	return n
}
