package child

import (
	"slices"
	"testing"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given Command
		words []string
		fault string
	}{
		"none":           {},
		"a program":      {given: Command{"--", "app"}, words: []string{"app"}},
		"its own --":     {given: Command{"--", "app", "--", "x"}, words: []string{"app", "--", "x"}},
		"nothing after":  {given: Command{"--"}, fault: "nothing after --: want the app's command and its arguments"},
		"an empty word":  {given: Command{"--", ""}, fault: "nothing after --: want the app's command and its arguments"},
		"a forgotten --": {given: Command{"app", "x"}, fault: `unexpected argument "app": the app's command goes after --`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.given.Validate()
			if (err != nil) != (c.fault != "") || err != nil && err.Error() != c.fault {
				t.Errorf("fault %v, want %q", err, c.fault)
			}
			if err == nil && !slices.Equal(c.given.Words(), c.words) {
				t.Errorf("words %q, want %q", c.given.Words(), c.words)
			}
		})
	}
}
