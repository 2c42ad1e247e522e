package relaytest_test

import (
	"slices"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

// sentGrant is the grant in a req message, nil where there is only its hash.
func sentGrant(t *testing.T, payload []byte) []byte {
	t.Helper()
	sealed, _, _, err := relay.SplitRequest(payload)
	relaytest.Must(t, err)
	return sealed
}

// The grant is sent until the worker has answered under it, and then only named.
func TestGrantIsSentOnce(t *testing.T) {
	n, _ := start(t)
	handler := &counter{handler: says("hello")}
	w, _ := n.Worker(handler, nil)
	client := n.Publisher(nil)
	root := n.Tap(n.Root, "obo.v1.>")
	for range 3 {
		send(t, client, "POST", "/").want(t, 200, "hello")
	}
	for i, whole := range []bool{true, false, false} {
		if got := sentGrant(t, root.Wait(".req.", i+1).Data) != nil; got != whole {
			t.Errorf("request %d: grant %v", i+1, got)
		}
	}
	// The worker drops what it has opened: the request goes through all the same, and is executed once.
	w.SetTrust(n.Trust)
	send(t, client, "POST", "/").want(t, 200, "hello")
	first, again := root.Wait(".req.", 4), root.Wait(".req.", 5)
	if sentGrant(t, first.Data) != nil || sentGrant(t, again.Data) == nil || first.Reply != again.Reply {
		t.Error("the request was not sent again with its grant")
	}
	_, _, frame, _ := relay.SplitRequest(first.Data)
	if _, _, same, _ := relay.SplitRequest(again.Data); !slices.Equal(frame, same) {
		t.Error("another frame was sealed for the same request")
	}
	handler.want(t, 4)
}

// A captured request is no more good with its grant than by reference, whichever came first.
func TestReplayInTheOtherForm(t *testing.T) {
	n, _ := start(t)
	handler := &counter{handler: says("hello")}
	w, _ := n.Worker(handler, nil)
	client := n.Publisher(nil)
	root := n.Tap(n.Root, "obo.v1.>")
	send(t, client, "POST", "/").want(t, 200, "hello")
	send(t, client, "POST", "/").want(t, 200, "hello")
	whole, named := root.Wait(".req.", 1), root.Wait(".req.", 2)
	sealed, hash, frame, _ := relay.SplitRequest(whole.Data)
	_, _, later, _ := relay.SplitRequest(named.Data)
	i := newInspector(t, n)
	for _, m := range [][2][]byte{
		{[]byte(whole.Reply), slices.Concat([]byte{0, 0}, hash[:], frame)},
		{[]byte(named.Reply), slices.Concat([]byte{byte(len(sealed) >> 8), byte(len(sealed))}, sealed, later)},
	} {
		forged := natsMsg(whole.Subject, m[1])
		forged.Reply = string(m[0])
		root.Send(forged)
	}
	waitDropped(t, i, 2, w.Instance())
	handler.want(t, 2)
}

// Whoever runs the broker says a thousand times that the grant is not known: it is sent a few times more, with the grant, and
// nothing else comes of it.
func TestForgedGrantUnknown(t *testing.T) {
	n, _ := start(t)
	b := newBlocker()
	handler := &counter{handler: b.handler("genuine")}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	got := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	b.resume <- struct{}{}
	relaytest.Recv(t, got, "the reply").want(t, 200, "genuine")
	root := n.Tap(n.Root, "obo.v1.req.>")
	got = background(t, client, "POST", "/")
	request := root.Wait(".req.", 1)
	relaytest.Recv(t, b.running, "the handler")
	for range 1000 {
		relaytest.Must(t, root.Conn.PublishMsg(natsMsg(request.Reply, relay.UnsealedRefusal(relay.CodeGrantUnknown))))
	}
	root.Flush()
	close(b.resume)
	relaytest.Recv(t, got, "the reply").want(t, 200, "genuine")
	handler.want(t, 2)
	again := root.On(".req.")[1:] // none where the worker had acknowledged the request before
	if len(again) > 4 {
		t.Errorf("it was sent %d times more", len(again))
	}
	for _, m := range again {
		if sentGrant(t, m.Data) == nil {
			t.Error("it was sent again without its grant")
		}
	}
}
