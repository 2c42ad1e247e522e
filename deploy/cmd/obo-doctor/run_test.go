package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, name := range []string{"OBO_KIT", "OBO_KIT_FILE", "OBO_TOKEN", "OBO_TOKEN_FILE", "DATABRICKS_HOST", "DATABRICKS_APP_NAME", "OBO_WORKSPACE"} {
		t.Setenv(name, "")
	}
	for _, c := range []struct {
		args   string
		status int
		says   string
	}{
		{"--help", 0, "Usage: obo-doctor"},
		{"--nonsense", 2, "obo-doctor --help"},
		{"--path relative", 1, "want one that starts with /"},
		{"", 3, "obo init makes the kit"}, // nothing is configured: the report says so, and what to do
		{"--json", 3, "obo.v1.doctor"},
	} {
		var out strings.Builder
		if got := run(t.Context(), strings.Fields(c.args), strings.NewReader(""), &out, &out); got != c.status || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q: status %d, want %d with %q:\n%s", c.args, got, c.status, c.says, out.String())
		}
	}
}
