package worker

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

const policyHead = "type: obo.v1.policy\nrules:\n"

func mustPolicy(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := ParsePolicy("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rules makes a policy of lines "PATTERN = who", where who is anyone, deny, or groups with commas between.
func rules(t testing.TB, lines ...string) *Policy {
	t.Helper()
	var b strings.Builder
	b.WriteString(policyHead)
	for _, line := range lines {
		match, who, ok := strings.Cut(line, " = ")
		if !ok {
			t.Fatalf("%q", line)
		}
		switch who {
		case "anyone", "deny":
			who += ": true"
		default:
			who = "groups: [" + who + "]"
		}
		b.WriteString("  - match: '" + match + "'\n    " + who + "\n")
	}
	return mustPolicy(t, b.String())
}

func someUser(groups ...string) *User {
	return &User{ID: "7", UserName: "alice@example.com", Groups: groups}
}

func TestPolicyDecides(t *testing.T) {
	tests := map[string]struct {
		policy []string
		ask    map[string]string // request to the rule that decides; "!" before it: denied; "!" alone: no rule
	}{
		"what is not named is denied": {
			[]string{"GET /a = anyone"},
			map[string]string{"GET /a": "GET /a", "HEAD /a": "GET /a", "POST /a": "!", "GET /b": "!", "GET /": "!", "OPTIONS /a": "!", "TRACE /a": "!", "X-NEW /a": "!"},
		},
		"the most specific decides, wherever it stands": {
			[]string{"/ = anyone", "/a/ = deny", "/a/b = anyone", "GET /a/c = anyone"},
			map[string]string{"GET /": "/", "GET /x/y": "/", "GET /a/x": "!/a/", "DELETE /a/b": "/a/b", "GET /a/c": "GET /a/c", "POST /a/c": "!/a/", "GET /a/b/c": "!/a/"},
		},
		"HEAD follows GET, unless it is named": {
			[]string{"GET /a = deny", "/a = anyone", "GET /b = deny", "HEAD /b = anyone", "/b = anyone"},
			map[string]string{"GET /a": "!GET /a", "HEAD /a": "!GET /a", "POST /a": "/a", "GET /b": "!GET /b", "HEAD /b": "HEAD /b"},
		},
		"letter case of methods is no way around": {
			[]string{"POST /a = deny", "/ = anyone"},
			map[string]string{"POST /a": "!POST /a", "post /a": "!", "Post /a": "!", "get /": "!"},
		},
		"encoded letters are no way around": {
			[]string{"/admin = deny", "/caf%C3%A9 = deny", "/a%20b = deny", "/ = anyone"},
			map[string]string{
				"GET /%61dmin": "!/admin", "GET /%61%64%6D%69%6e": "!/admin", "GET /admi%6E/": "!/admin", "GET /%2561dmin": "/",
				"GET /caf%c3%a9": "!/caf%C3%A9", "GET /a%20b": "!/a%20b", "GET /a+b": "/",
			},
		},
		"a semicolon is no way around": {
			[]string{"/admin = deny", "/ = anyone"},
			map[string]string{"GET /admin;x=1": "!", "GET /;/admin": "!", "GET /admin;": "!", "GET /a%3Bb": "/"},
		},
		"a slash more is no way around": {
			[]string{"/admin = deny", "POST /form = deny", "/ = anyone"},
			map[string]string{"GET /admin/": "!/admin", "GET /admin/x": "/", "POST /form/": "!POST /form", "GET /form/": "/"},
		},
		"a slash less is no way around": {
			[]string{"/admin/ = deny", "/only/{$} = deny", "/{page} = anyone", "/ = anyone"},
			map[string]string{"GET /admin": "!/admin/", "GET /admin/": "!/admin/", "GET /only": "!/only/{$}", "GET /only/x": "/", "GET /other": "/{page}"},
		},
		"nor one less below a wildcard": {
			[]string{"/{t}/admin/ = deny", "/{t}/{page} = anyone", "/acme/{page} = anyone"},
			// The two name the path in different places, so both must allow it.
			map[string]string{"GET /x/admin": "!/{t}/admin/", "GET /acme/admin": "!/{t}/admin/", "GET /acme/y": "/acme/{page}"},
		},
		"both forms named: each has its rule": {
			[]string{"/docs = anyone", "/docs/ = deny", "GET /u/{id} = anyone", "/u/{id}/ = deny"},
			map[string]string{"GET /docs": "/docs", "GET /docs/": "!/docs/", "GET /u/7": "GET /u/{id}", "GET /u/7/": "!/u/{id}/", "POST /u/7": "!/u/{id}/"},
		},
		"one form named is for both, also where it allows": {
			[]string{"/reports/ = anyone", "GET /health = anyone"},
			map[string]string{"GET /reports": "/reports/", "GET /reports/": "/reports/", "GET /reports/a": "/reports/", "GET /health/": "GET /health", "GET /health/x": "!"},
		},
		"the root": {
			[]string{"/{$} = anyone", "/a = anyone"},
			map[string]string{"GET /": "/{$}", "GET /b": "!", "GET /b/": "!"},
		},
		"the rest, empty too": {
			[]string{"GET /files/{rest...} = anyone", "GET /files/secret/ = deny"},
			map[string]string{"GET /files": "GET /files/{rest...}", "GET /files/": "GET /files/{rest...}", "GET /files/a/b": "GET /files/{rest...}", "GET /files/secret": "!GET /files/secret/", "HEAD /files/secret/x": "!GET /files/secret/"},
		},
		"a wildcard is one segment, and not an empty one": {
			[]string{"/u/{id}/x = anyone"},
			map[string]string{"GET /u/a/x": "/u/{id}/x", "GET /u/a/b/x": "!", "GET /u/%2a/x": "/u/{id}/x", "GET /u/{id}/x": "/u/{id}/x", "GET /u/x": "!"},
		},
		"letter case of paths counts": {
			[]string{"/Reports = anyone"},
			map[string]string{"GET /Reports": "/Reports", "GET /reports": "!"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := rules(t, test.policy...)
			for ask, want := range test.ask {
				method, path, _ := strings.Cut(ask, " ")
				if err := relay.CheckPath(path); err != nil {
					t.Fatalf("%s never gets that far: %v", ask, err)
				}
				d := p.Decide(method, path, someUser())
				got := d.Rule
				if !d.Allowed {
					got = "!" + got
				}
				if got != want {
					t.Errorf("%s: decided by %q, want %q (%s)", ask, got, want, d.Reason)
				}
				if (d.Line == 0) != (d.Rule == "") || d.Reason == "" {
					t.Errorf("%s: line %d, rule %q, reason %q", ask, d.Line, d.Rule, d.Reason)
				}
			}
		})
	}
}

func TestPolicyKnowsPeople(t *testing.T) {
	p := mustPolicy(t, policyHead+`
  - {match: /a, groups: [analysts, "data admins"], users: [carol@example.com]}
  - {match: /b, users: [alice@example.com]}
  - {match: /c, anyone: true}
  - {match: /d, deny: true}
`)
	someone := func(name string, groups ...string) *User { return &User{ID: "1", UserName: name, Groups: groups} }
	tests := []struct {
		path string
		user *User
		want bool
	}{
		{"/a", someone("x", "analysts"), true}, {"/a", someone("x", "users", "data admins"), true}, {"/a", someone("carol@example.com"), true},
		{"/a", someone("x"), false}, {"/a", someone("x", "Analysts", "analysts ", "analyst", "analysts, data admins", ""), false},
		{"/a", someone("analysts"), false}, {"/a", someone("x", "carol@example.com"), false}, {"/a", nil, false},
		{"/b", someone("alice@example.com"), true}, {"/b", someone("Alice@example.com"), false}, {"/b", someone("7", "alice@example.com"), false},
		{"/b", &User{ID: "alice@example.com", UserName: "m", DisplayName: "alice@example.com", Emails: []string{"alice@example.com"}}, false},
		{"/b", nil, false}, {"/c", someone("x"), true}, {"/c", nil, true}, {"/d", someone("carol@example.com", "analysts"), false}, {"/d", nil, false},
	}
	for _, test := range tests {
		if d := p.Decide("GET", test.path, test.user); d.Allowed != test.want {
			t.Errorf("%s, %+v: %s", test.path, test.user, d.Reason)
		}
	}
}

func TestPolicyExplainsOnlyIfAsked(t *testing.T) {
	text := policyHead + "  - {match: /a, groups: [analysts, secret-project]}\n  - {match: /b, users: [carol@example.com]}\n  - {match: /c, deny: true}\n"
	silent, open := mustPolicy(t, text), mustPolicy(t, "explain: true\n"+text)
	for path, want := range map[string]string{
		"/a": "one of the groups analysts, secret-project", "/b": "certain users only", "/c": "nobody may do it", "/d": "no rule names it",
	} {
		e := silent.refusal(silent.Decide("GET", path, someUser()))
		if got := e.Problem().Detail; e.Code != relay.CodeForbidden || got != "the policy of this service does not allow it. "+relay.CodeForbidden.Info().Remedy {
			t.Errorf("%s: a silent policy says %q", path, got)
		}
		if got := open.refusal(open.Decide("GET", path, someUser())).Detail; !strings.Contains(got, want) || strings.Contains(got, "carol") || strings.Contains(got, "line") {
			t.Errorf("%s: says %q, want %q", path, got, want)
		}
	}
}

func TestPolicyWarnings(t *testing.T) {
	tests := map[string]struct {
		policy []string
		want   []string
	}{
		"a method guarded, the others not": {[]string{"POST /admin = admins", "/ = anyone"}, []string{"line 3, POST /admin, is about its method only: with another method line 5, /, decides, which allows it to anyone"}},
		"a method denied":                  {[]string{"DELETE /a/{id} = deny", "/a/ = users"}, []string{"line 3, DELETE /a/{id}"}},
		"an open method":                   {[]string{"GET /a = anyone", "/ = admins"}, nil},
		"the others named too":             {[]string{"POST /a = admins", "/a = deny", "/ = anyone"}, nil},
		"nothing else":                     {[]string{"POST /a = admins"}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := rules(t, test.policy...).Warnings()
			if len(got) != len(test.want) {
				t.Fatalf("got %q", got)
			}
			for i := range got {
				if !strings.Contains(got[i], test.want[i]) {
					t.Errorf("got %q, want %q", got[i], test.want[i])
				}
			}
		})
	}
}

// An environment variable must not turn patterns with methods into paths that match nothing.
func TestPolicyRefusesTheOldMux(t *testing.T) {
	const child = "OBO_TEST_OLD_MUX"
	if os.Getenv(child) != "" {
		_, err := ParsePolicy("p", []byte(policyHead+"  - {match: GET /a, deny: true}\n  - {match: /, anyone: true}\n"))
		if err == nil || !strings.Contains(err.Error(), "httpmuxgo121") {
			t.Errorf("got %v", err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPolicyRefusesTheOldMux$")
	cmd.Env = append(os.Environ(), child+"=1", "GODEBUG=httpmuxgo121=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func BenchmarkPolicyDecide(b *testing.B) {
	p := rules(b, "/ = anyone", "GET /reports/ = analysts", "/reports/{id}/raw = deny", "POST /admin = admins")
	u := someUser("analysts")
	b.ReportAllocs()
	for b.Loop() {
		p.Decide("GET", "/reports/7", u)
	}
}
