package main

import (
	"bytes"
	"maps"
	"testing"

	"github.com/obo-relay/obo-relay/worker"
)

func TestIdentityHeaderFlag(t *testing.T) {
	t.Setenv("DATABRICKS_WORKSPACE_ID", "42")
	for name, test := range map[string]struct {
		args []string
		want worker.IdentityHeaders
	}{
		"default":         {nil, worker.IdentityHeaders{"X-Forwarded-Email": "email", "X-Forwarded-User": "id@42", "X-Forwarded-Preferred-Username": "user_name"}},
		"another source":  {[]string{"--identity-header", "x-forwarded-user=email"}, worker.IdentityHeaders{"X-Forwarded-Email": "email", "X-Forwarded-User": "email", "X-Forwarded-Preferred-Username": "user_name"}},
		"left out, added": {[]string{"--identity-header", "X-Forwarded-User=none", "--identity-header", "X-Person=display_name"}, worker.IdentityHeaders{"X-Forwarded-Email": "email", "X-Person": "display_name", "X-Forwarded-Preferred-Username": "user_name"}},
		// By chance the one or the other would count: both stay, and the worker refuses them.
		"in two spellings": {[]string{"--identity-header", "x-person=id", "--identity-header", "X-Person=email", "--identity-header", "x-forwarded-user=none", "--identity-header", "X-Forwarded-User=email"},
			worker.IdentityHeaders{"X-Forwarded-Email": "email", "X-Forwarded-User": "email", "x-forwarded-user": "none", "X-Person": "email", "x-person": "id", "X-Forwarded-Preferred-Username": "user_name"}},
		// Also where the canonical spelling is not the first in order, or is the one that is left out.
		"in capitals": {[]string{"--identity-header", "X-PERSON=id", "--identity-header", "X-Person=email", "--identity-header", "X-Forwarded-User=none", "--identity-header", "x-forwarded-user=email"},
			worker.IdentityHeaders{"X-Forwarded-Email": "email", "X-Forwarded-User": "none", "x-forwarded-user": "email", "X-Person": "email", "X-PERSON": "id", "X-Forwarded-Preferred-Username": "user_name"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			f, code := parse(test.args, &out, &out)
			if code >= 0 {
				t.Fatal(code, out.String())
			}
			if got := f.identityHeaders(); !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
