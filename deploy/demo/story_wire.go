package demo

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
)

// listened shows what everybody who may listen on NATS sees.
func (s *story) listened(ctx context.Context) {
	s.print.title("3  What a listener sees: the NATS user obo-inspector, subscribed to >")
	answer, err := s.stage.Call(ctx, VisitorAlice, WayRelay, "/whoami")
	if err != nil {
		s.check("one more call by alice", err.Error(), "200")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = s.stage.recorder.wait(ctx, func(m Message) bool { _, closes := m.ofRequest(answer.Request); return closes })
	var request Message // the first with a token in it: to a worker that knows a token, later ones name it by a hash
	if err == nil {
		request, err = s.stage.recorder.wait(ctx, func(m Message) bool {
			_, err := grantHeader(m.Data)
			return err == nil && m.Header.Get(relay.HintMethod) != ""
		})
	}
	if err != nil {
		s.check("her request and the reply", "not seen: "+err.Error(), "seen")
		return
	}
	s.print.quote(asCLI(request))
	s.print.line("      That is the length and the public header of the sealed token; the rest is ciphertext.")
	s.print.line("      Later requests with the same token refer to it by a hash.")
	s.print.line("")
	s.sealed(request)
	s.search(ctx, request.Header.Get(relay.HintID))
}

// asCLI is a message as "nats sub" prints it, but for the payload, which is binary: its size and first bytes.
func asCLI(m Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[#%d] Received on %q\n", m.Number, m.Subject)
	if m.Reply != "" {
		fmt.Fprintf(&b, "     with reply %q\n", m.Reply)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(m.Header[name], ", "))
	}
	const shown = 48
	fmt.Fprintf(&b, "\n%d bytes, beginning with\n%s", len(m.Data), hex.Dump(m.Data[:min(shown, len(m.Data))]))
	return b.String()
}

// search looks for the people's tokens in everything that crossed NATS and in everything that was logged.
func (s *story) search(ctx context.Context, requestID string) {
	messages, _ := s.stage.recorder.since(0)
	wire, logs := captured(messages), s.log.await(ctx, requestID)
	tokens := s.stage.tokens.all()
	var list []needle
	for _, token := range tokens {
		list = append(list, needles(token)...)
	}
	const enough = 2 // alice's and bob's
	s.expect(fmt.Sprintf("%d tokens in %d messages", len(tokens), len(messages)),
		fmt.Sprintf("%d hits in %s bytes: raw, URL, hex, base64, base64url", hits(wire, list), grouped(len(wire))),
		len(tokens) >= enough && hits(wire, list) == 0, "0 hits, of 2 tokens or more")
	s.expect("the same in the logs of all parts", fmt.Sprintf("%d hits in %s bytes, at level debug", hits(logs, list), grouped(len(logs))),
		len(logs) > 0 && hits(logs, list) == 0, "0 hits")
	control := []needle{{"raw", []byte(requestID)}}
	s.expect("control: this request's id", fmt.Sprintf("%d hits in the messages, %d in the logs", hits(wire, control), hits(logs, control)),
		hits(wire, control) > 0 && hits(logs, control) > 0, "hits in both")
	s.check("control: tokens hidden in a copy", fmt.Sprintf("%d of %d forms found", found(planted(wire, list), list), len(list)),
		fmt.Sprintf("%d of %d forms found", len(list), len(list)))
}

// sealed compares what the token is sealed to with what the worker announced.
func (s *story) sealed(request Message) {
	want := "ECDH-ES and A256GCM, to a key that one worker announced"
	got := "another key than the announced one"
	messages, _ := s.stage.recorder.since(0)
	header, err := grantHeader(request.Data)
	if err != nil {
		s.check("the token in it", err.Error(), want)
		return
	}
	for _, m := range messages {
		if announced, err := announcedKey(m); err == nil && announced == header.Kid {
			got = header.Alg + " and " + header.Enc + ", to a key that one worker announced"
		}
	}
	s.check("the token in it is encrypted", got, want)
}

// grouped writes a number with a comma at each thousand.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
