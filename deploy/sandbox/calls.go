package sandbox

import (
	"strings"
	"sync"
)

// Call counts requests to the workspace that were alike.
type Call struct {
	// Principal is the user name or client id whose token was sent, also when
	// the token was refused; "" if none, or not one of this workspace's.
	Principal string
	// ServicePrincipal tells that Principal is not a person.
	ServicePrincipal bool
	Method           string
	Path             string
	// Status is 0 when the connection was reset.
	Status int
	Count  int
}

// Calls are the requests a workspace has had, in order of first appearance. Its
// methods narrow them down:
//
//	ws.Calls().ByServicePrincipals().Count() == 0
type Calls []Call

// By keeps the calls of the principal; "" are those of nobody known.
func (c Calls) By(principal string) Calls {
	return c.keep(func(call Call) bool { return call.Principal == principal })
}

// ByServicePrincipals keeps the calls of principals that are not people.
func (c Calls) ByServicePrincipals() Calls {
	return c.keep(func(call Call) bool { return call.ServicePrincipal })
}

// To keeps the calls to paths with the prefix.
func (c Calls) To(prefix string) Calls {
	return c.keep(func(call Call) bool { return strings.HasPrefix(call.Path, prefix) })
}

// Answered keeps the calls that got this status.
func (c Calls) Answered(status int) Calls {
	return c.keep(func(call Call) bool { return call.Status == status })
}

// Count is the number of requests.
func (c Calls) Count() int {
	n := 0
	for _, call := range c {
		n += call.Count
	}
	return n
}

func (c Calls) keep(wanted func(Call) bool) Calls {
	var kept Calls
	for _, call := range c {
		if wanted(call) {
			kept = append(kept, call)
		}
	}
	return kept
}

// maxCallKinds bounds the memory of a workspace that meets a path scanner;
// later kinds of call count under the path "(other)".
const maxCallKinds = 10_000

type callLog struct {
	mu    sync.Mutex
	kinds map[Call]int // to the index in calls; keys have Count 0; guarded by mu
	calls Calls        // guarded by mu
}

func newCallLog() *callLog { return &callLog{kinds: map[Call]int{}} }

func (l *callLog) add(call Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, known := l.kinds[call]
	if !known {
		if len(l.kinds) >= maxCallKinds {
			call.Method, call.Path = "", "(other)"
			i, known = l.kinds[call]
		}
		if !known {
			i = len(l.calls)
			l.kinds[call] = i
			l.calls = append(l.calls, call)
		}
	}
	l.calls[i].Count++
}

func (l *callLog) snapshot() Calls {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(Calls(nil), l.calls...)
}

func (l *callLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kinds, l.calls = map[Call]int{}, nil
}
