package worker

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func alice() *User {
	return &User{ID: "7", UserName: "alice@example.com", DisplayName: "Alice Ärmel 100%",
		Emails: []string{"a.aermel@example.com", "alice@example.com"}, Groups: []string{"users"}}
}

func TestIdentityHeadersApply(t *testing.T) {
	with := func(change func(*User)) *User {
		u := alice()
		change(u)
		return u
	}
	all := IdentityHeaders{"X-E": "email", "X-I": "id", "X-W": "id@42", "X-N": "user_name", "X-D": "display_name"}
	tests := map[string]struct {
		table IdentityHeaders
		user  *User
		want  map[string]string
		unfit []string
	}{
		"platform": {
			table: DefaultIdentityHeaders().WithWorkspace("42"), user: alice(),
			want: map[string]string{"X-Forwarded-Email": "a.aermel@example.com", "X-Forwarded-User": "7@42", "X-Forwarded-Preferred-Username": "alice@example.com"},
		},
		"workspace unknown": {
			table: DefaultIdentityHeaders().WithWorkspace(""), user: alice(),
			want: map[string]string{"X-Forwarded-Email": "a.aermel@example.com", "X-Forwarded-User": "7", "X-Forwarded-Preferred-Username": "alice@example.com"},
		},
		"every source": {
			table: all, user: alice(),
			want: map[string]string{"X-E": "a.aermel@example.com", "X-I": "7", "X-W": "7@42", "X-N": "alice@example.com", "X-D": "Alice %C3%84rmel 100%25"},
		},
		"no e-mail, user name is one":  {table: IdentityHeaders{"X-E": "email"}, user: with(func(u *User) { u.Emails = nil }), want: map[string]string{"X-E": "alice@example.com"}},
		"no e-mail, user name is none": {table: IdentityHeaders{"X-E": "email"}, user: &User{ID: "7", UserName: "4c2a-robot"}},
		"empty user":                   {table: all, user: &User{}},
		"nobody":                       {table: all},
		"line breaks and NUL": {
			table: all, user: &User{ID: "7\r\nX-Admin: 1", UserName: "a\x00b", DisplayName: "a\r\nb\x00", Emails: []string{"a@b\nc"}},
			want: map[string]string{"X-D": "a%0D%0Ab%00"}, unfit: []string{"X-E", "X-I", "X-N", "X-W"},
		},
		"not ASCII, never the next address": {
			table: all, user: &User{ID: "７", UserName: "ålice@example.com", Emails: []string{"ålice@example.com", "other@example.com"}},
			unfit: []string{"X-E", "X-I", "X-N", "X-W"},
		},
		"white space at the ends": {table: all, user: &User{ID: "7 ", UserName: " a", DisplayName: " A "}, want: map[string]string{"X-D": "A"}, unfit: []string{"X-I", "X-N", "X-W"}},
		"a list":                  {table: IdentityHeaders{"X-E": "email"}, user: &User{Emails: []string{"a@x.org,ceo@x.org"}}, unfit: []string{"X-E"}},
		"a mailbox":               {table: IdentityHeaders{"X-E": "email"}, user: &User{Emails: []string{"ceo@x.org <a@x.org>"}}, unfit: []string{"X-E"}},
		"a list with a name":      {table: IdentityHeaders{"X-E": "email"}, user: &User{Emails: []string{"ceo,a@x.org"}}, unfit: []string{"X-E"}},
		"a mailbox with a name":   {table: IdentityHeaders{"X-E": "email"}, user: &User{Emails: []string{"ceo <a@x.org>"}}, unfit: []string{"X-E"}},
		"two at signs":            {table: IdentityHeaders{"X-E": "email"}, user: &User{Emails: []string{"ceo@x.org@evil.example"}}, unfit: []string{"X-E"}},
		"too long":                {table: IdentityHeaders{"X-N": "user_name"}, user: &User{UserName: strings.Repeat("a", 1025)}, unfit: []string{"X-N"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.table.validate(); err != nil {
				t.Fatal(err)
			}
			h := http.Header{}
			if unfit := test.table.apply(h, test.user); !slices.Equal(unfit, test.unfit) {
				t.Errorf("left out %q, want %q", unfit, test.unfit)
			}
			got := map[string]string{}
			for name, values := range h {
				got[name] = strings.Join(values, "|")
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestIdentityHeadersReplaceWhatTheMessageBrought(t *testing.T) {
	table := IdentityHeaders{"X-Person": "email"}
	for name, user := range map[string]*User{"alice": alice(), "nobody": nil, "no value": {ID: "7"}} {
		h := http.Header{
			"X-Person": {"ceo@x.org", "ceo2@x.org"}, "x-person": {"ceo@x.org"}, "X_PERSON": {"ceo@x.org"}, "x_person": {"ceo@x.org"},
			"X-Forwarded-Email": {"ceo@x.org"}, "x_forwarded-USER": {"1@42"}, "X-Forwarded-Preferred_Username": {"ceo"}, "Accept": {"*/*"},
		}
		table.apply(h, user)
		want := http.Header{"Accept": {"*/*"}}
		if name == "alice" {
			want["X-Person"] = []string{"a.aermel@example.com"}
		}
		if !maps.EqualFunc(h, want, slices.Equal) {
			t.Errorf("%s: got %q, want %q", name, h, want)
		}
	}
}

func TestIdentityHeadersValidate(t *testing.T) {
	tests := map[string]struct {
		table IdentityHeaders
		want  []string // one for each fault
	}{
		"default":         {table: DefaultIdentityHeaders()},
		"empty":           {table: IdentityHeaders{}},
		"unknown source":  {table: IdentityHeaders{"X-A": "groups", "X-B": ""}, want: []string{`X-A: unknown source "groups"`, `X-B: unknown source ""`}},
		"suffix":          {table: IdentityHeaders{"X-A": "id@", "X-B": "id@a\r\nb", "X-C": "id@x y"}, want: []string{"X-A", "X-B"}},
		"not a name":      {table: IdentityHeaders{"X A": "id", "": "id", "X:": "id"}, want: []string{`"X A"`, `""`, `"X:"`}},
		"twice":           {table: IdentityHeaders{"X-A": "id", "x_a": "email"}, want: []string{"X-A and x_a"}},
		"of other use":    {table: IdentityHeaders{"x_forwarded_access_token": "id", "authorization": "id", "Content-Length": "id", "Obo-Id": "id"}, want: []string{"x_forwarded_access_token", "authorization", "Content-Length", "Obo-Id"}},
		"several at once": {table: IdentityHeaders{"Host": "nothing"}, want: []string{"needed for something else", "unknown source"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.table.validate()
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

func TestWithWorkspaceLeavesTheTableAlone(t *testing.T) {
	table := IdentityHeaders{"X-A": "id", "X-B": "id@1"}
	got := table.WithWorkspace("42")
	if table["X-A"] != "id" || got["X-A"] != "id@42" || got["X-B"] != "id@1" {
		t.Errorf("table %v, copy %v", table, got)
	}
}

// FuzzIdentityHeaders sends what was set over HTTP: it must arrive as it was set, and nothing beside it.
func FuzzIdentityHeaders(f *testing.F) {
	for _, seed := range []string{"alice@example.com", "a\r\nX-Admin: 1", "\x00", "Ä", " a ", "%41", strings.Repeat("x", 2000)} {
		f.Add(seed)
	}
	seen := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	f.Cleanup(server.Close)
	table := IdentityHeaders{"X-E": "email", "X-I": "id@42", "X-N": "user_name", "X-D": "display_name"}
	f.Fuzz(func(t *testing.T, value string) {
		r, err := http.NewRequest(http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		table.apply(r.Header, &User{ID: value, UserName: value, DisplayName: value, Emails: []string{value}})
		sent := maps.Clone(r.Header)
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatalf("the request broke: %v", err)
		}
		_ = resp.Body.Close()
		got := <-seen
		delete(got, "User-Agent")
		delete(got, "Accept-Encoding")
		if !maps.EqualFunc(got, sent, slices.Equal) {
			t.Errorf("sent %q, arrived %q", sent, got)
		}
	})
}
