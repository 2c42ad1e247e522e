package relay

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// Hints says which clear NATS headers a side sends for people with the nats CLI (PROTOCOL.md §11).
type Hints string

// The levels of hints.
const (
	HintsFull    Hints = "full"
	HintsMinimal Hints = "minimal"
	HintsNone    Hints = "none"
)

// The hint headers.
const (
	HintID     = "Obo-Id"
	HintMethod = "Obo-Method"
	HintPath   = "Obo-Path"
	HintStatus = "Obo-Status"
	HintTrace  = "traceparent"

	maxHintPath = 1024
	maxTrace    = 128
)

// Validate reports a level that does not exist.
func (h Hints) Validate() error {
	switch h {
	case HintsFull, HintsMinimal, HintsNone:
		return nil
	}
	return fmt.Errorf("hints %q: want full, minimal or none", string(h))
}

// Request returns the hints of a request, nil for none.
func (h Hints) Request(id ID, head *RequestHead) nats.Header {
	switch h {
	case HintsMinimal:
		return nats.Header{HintID: {id.String()}}
	case HintsFull:
		out := nats.Header{HintID: {id.String()}, HintMethod: {head.Method}}
		if len(head.Path) <= maxHintPath {
			out[HintPath] = []string{head.Path}
		}
		if trace := head.Header.Get(HintTrace); trace != "" && len(trace) <= maxTrace && validQuery(trace) {
			out[HintTrace] = []string{trace}
		}
		return out
	}
	return nil
}

// Reply returns the hints of a reply's head, whole or end frame, nil for none.
func (h Hints) Reply(id ID, status int) nats.Header {
	if h == HintsNone || status == 0 {
		return nil
	}
	return nats.Header{HintID: {id.String()}, HintStatus: {strconv.Itoa(status)}}
}

// CheckHints refuses a request whose hints contradict its head: nothing is taken from them, but a person who reads them
// must not be misled.
func CheckHints(hints nats.Header, id ID, head *RequestHead) error {
	for _, c := range []struct{ name, want string }{
		{HintID, id.String()}, {HintMethod, head.Method}, {HintPath, head.Path}, {HintTrace, head.Header.Get(HintTrace)},
	} {
		if values, ok := hints[c.name]; ok && (len(values) != 1 || values[0] != c.want) {
			return errors.New("the hint " + c.name + " contradicts the head")
		}
	}
	if _, ok := hints[HintStatus]; ok {
		return errors.New("a request with the hint " + HintStatus)
	}
	return nil
}
