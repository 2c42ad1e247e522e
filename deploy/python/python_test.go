package python

import (
	"os/exec"
	"strings"
	"testing"
)

// TestModule runs the module's own tests, those that need Python only.
func TestModule(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Logf("python3 is missing: NOTHING WAS TESTED: %v", err)
		return
	}
	out, err := exec.CommandContext(t.Context(), python, "-B", "-m", "unittest", "-v", "test_obo_relay").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nOK\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
