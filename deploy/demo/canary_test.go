package demo

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"time"
)

func TestSearchFindsEachForm(t *testing.T) {
	t.Parallel()
	token := relaytest.Token("alice", time.Now().Add(time.Hour))
	list := needles(token)
	if n := hits([]byte("nothing of the kind"), list); n != 0 {
		t.Errorf("%d hits in a text without it", n)
	}
	for form, leak := range map[string]string{
		"raw":       "token=" + token + ";",
		"payload":   strings.Split(token, ".")[1],
		"hex":       hex.EncodeToString([]byte(token)),
		"URL":       url.QueryEscape(token),
		"base64":    base64.StdEncoding.EncodeToString([]byte(token)),
		"base64 1":  base64.StdEncoding.EncodeToString([]byte("x" + token + "y")),
		"base64 2":  base64.StdEncoding.EncodeToString([]byte("xx" + token + "yy")),
		"base64url": base64.URLEncoding.EncodeToString([]byte("Bearer " + token)),
	} {
		if hits([]byte("before "+leak+" after"), list) == 0 {
			t.Errorf("%s: not found", form)
		}
	}
	if haystack := []byte("hay"); found(planted(haystack, list), list) != len(list) || string(haystack) != "hay" {
		t.Error("the control does not find what it has planted, or changes the haystack")
	}
}

func TestCapturedHasEveryByte(t *testing.T) {
	t.Parallel()
	b := captured([]Message{{Subject: "s.1", Reply: "r.1", Header: nats.Header{"Name": {"a", "b"}}, Data: []byte{0, 1, 2}}})
	for _, part := range []string{"s.1", "r.1", "Name", "a,b", "\x00\x01\x02"} {
		if !bytes.Contains(b, []byte(part)) {
			t.Errorf("%q is missing", part)
		}
	}
}
