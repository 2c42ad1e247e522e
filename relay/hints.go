package relay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

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

	maxHintPath = 512
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
	var seen [4]bool
	for name, values := range hints { // NATS headers keep their letter case, a person reads past it
		var want string
		var i int
		switch {
		case strings.EqualFold(name, HintID):
			i, want = 0, id.String()
		case strings.EqualFold(name, HintMethod):
			i, want = 1, head.Method
		case strings.EqualFold(name, HintPath):
			i, want = 2, head.Path
		case strings.EqualFold(name, HintTrace):
			i, want = 3, head.Header.Get(HintTrace)
		case strings.EqualFold(name, HintStatus):
			return errors.New("a request with the hint " + HintStatus)
		default:
			continue
		}
		if seen[i] || len(values) != 1 || values[0] != want {
			return errors.New("the hint " + strings.ToLower(name) + " contradicts the head")
		}
		seen[i] = true
	}
	return nil
}
