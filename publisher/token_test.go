package publisher

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

func TestTokenOf(t *testing.T) {
	for _, c := range []struct {
		name   string
		header http.Header
		want   string
		code   relay.Code
	}{
		{"none", http.Header{}, "", relay.CodeTokenMissing},
		{"nil", nil, "", relay.CodeTokenMissing},
		{"platform", http.Header{"X-Forwarded-Access-Token": {"a"}}, "a", ""},
		{"bearer", http.Header{"Authorization": {"Bearer a"}}, "a", ""},
		{"bearer in any case", http.Header{"Authorization": {"bEARER  a"}}, "a", ""},
		{"no scheme", http.Header{"Authorization": {"a"}}, "", relay.CodeTokenMissing},
		{"scheme alone", http.Header{"Authorization": {"Bearer"}}, "", relay.CodeTokenMissing},
		{"basic", http.Header{"Authorization": {"Basic a"}}, "", relay.CodeTokenMissing},
		{"both the same", http.Header{"X-Forwarded-Access-Token": {"a"}, "Authorization": {"Bearer a"}}, "a", ""},
		{"both, different", http.Header{"X-Forwarded-Access-Token": {"a"}, "Authorization": {"Bearer b"}}, "", relay.CodeTokenAmbiguous},
		{"twice the same", http.Header{"X-Forwarded-Access-Token": {"a", "a"}}, "a", ""},
		{"twice", http.Header{"X-Forwarded-Access-Token": {"a", "b"}}, "", relay.CodeTokenAmbiguous},
		{"two bearers", http.Header{"Authorization": {"Bearer a", "Bearer b"}}, "", relay.CodeTokenAmbiguous},
		{"a basic beside", http.Header{"Authorization": {"Basic x", "Bearer a"}}, "a", ""},
		{"another spelling", http.Header{"x-forwarded-access-token": {"a"}}, "", relay.CodeTokenMissing},
	} {
		got, err := tokenOf(c.header)
		if got != c.want || c.code == "" && err != nil || c.code != "" && !errors.Is(err, c.code) {
			t.Errorf("%s: %q %v", c.name, got, err)
		}
	}
}

func TestCheckToken(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	for _, c := range []struct {
		name   string
		raw    string
		opaque bool
		code   relay.Code
	}{
		{"good", testJWT("a", now.Add(time.Second)), false, ""},
		{"expires now", testJWT("a", now), false, relay.CodeTokenExpired},
		{"expired", testJWT("a", now.Add(-time.Hour)), true, relay.CodeTokenExpired},
		{"opaque", "dapi1", false, relay.CodeTokenOpaque},
		{"opaque, allowed", "dapi1", true, ""},
		{"a JWT without exp", "e30.e30.e30", false, relay.CodeTokenOpaque},
	} {
		err := checkToken(testToken(t, c.raw), c.opaque, now)
		if c.code == "" && err != nil || c.code != "" && !errors.Is(err, c.code) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
