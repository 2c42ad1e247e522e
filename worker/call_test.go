package worker

import (
	"net/http"
	"slices"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// What a publisher that removes nothing lets through stops at the worker.
func TestNewRequestTrustsNoPublisher(t *testing.T) {
	head := &relay.RequestHead{Method: "GET", Path: "/", Length: -1, Header: http.Header{
		"Accept": {"*/*"}, "X-Forwarded-Email": {"ceo@x.org"}, "X_forwarded_user": {"1"}, "X-Forwarded-Groups": {"admins"}, "X-Forwarded-Access-Token": {"ceo"},
		"X-Real-Ip": {"::1"}, "Authorization": {"Bearer ceo"}, "Script_name": {"/admin"}, "X-Original-Url": {"/admin"}, "X-Http-Method-Override": {"DELETE"},
		"Connection": {"X-Named"}, "X-Named": {"1"}, "Obo-Id": {"1"},
	}}
	token, id := aliceToken(t), relay.NewID()
	r, _, err := newRequest(t.Context(), &admitted{head: head}, Call{ID: id, Token: token}, alice(), DefaultIdentityHeaders())
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Accept": {"*/*"}, "X-Forwarded-Access-Token": {token.Reveal()}, "X-Request-Id": {id.String()},
		"X-Forwarded-Email": {alice().Emails[0]}, "X-Forwarded-User": {alice().ID}, "X-Forwarded-Preferred-Username": {alice().UserName},
	}
	for name, values := range r.Header {
		if !slices.Equal(values, want[name]) {
			t.Errorf("%s arrived: %q", name, values)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("lost: %v", want)
	}
}

// A trailer is filled in after the header was made, and some servers add it to that: what may not come in the header may not
// come in a trailer, neither under the platform's names nor under the table's.
func TestTrailersCannotSpoof(t *testing.T) {
	head := &relay.RequestHead{Method: "POST", Path: "/", Header: http.Header{}, Length: -1, Trailer: []string{"X-Person", "X-Forwarded-Email", "X-Sum"}}
	r, _, err := newRequest(t.Context(), &admitted{head: head}, Call{Token: aliceToken(t)}, alice(), IdentityHeaders{"X-Person": "id"})
	if err != nil {
		t.Fatal(err)
	}
	if _, kept := r.Trailer["X-Sum"]; len(r.Trailer) != 1 || !kept {
		t.Errorf("%v", r.Trailer)
	}
}
