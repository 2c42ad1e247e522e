package sandbox

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is a way in which the workspace misbehaves. After Delay it does the
// first of Reset, SignIn and Status that is set, or else answers normally.
type Fault struct {
	// Path is a prefix of the paths concerned. Defaults to every path.
	Path string
	// Method concerned. Defaults to every method.
	Method string
	// Times is the number of requests the fault is played for. Defaults to
	// every request until it is removed.
	Times int
	// After carries the request out first, and then loses its answer.
	After bool
	// Delay before the answer; it ends early when the caller leaves.
	Delay time.Duration
	// Reset closes the connection without an answer.
	Reset bool
	// SignIn answers 302 to the sign-in page.
	SignIn bool
	// Status of the answer, with Body or an error document.
	Status int
	// RetryAfter is sent with Status, in whole seconds, if positive.
	RetryAfter time.Duration
	// Body is sent with Status. Defaults to an error document in the
	// platform's form.
	Body string
}

// Faults are played in the order they were added, one a request. The zero value
// is ready to use.
type Faults struct {
	mu   sync.Mutex
	list []*Fault // Times counts down; guarded by mu
}

// Add adds a fault and returns a function that removes it.
func (f *Faults) Add(fault Fault) (remove func()) {
	entry := &fault
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, entry)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.list = slices.DeleteFunc(f.list, func(e *Fault) bool { return e == entry })
	}
}

// Clear removes all faults.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

// next takes the fault due for the request.
func (f *Faults) next(method, path string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, entry := range f.list {
		if !strings.HasPrefix(path, entry.Path) || entry.Method != "" && entry.Method != method {
			continue
		}
		fault := *entry
		if entry.Times > 0 {
			if entry.Times--; entry.Times == 0 {
				f.list = slices.Delete(f.list, i, i+1)
			}
		}
		return fault, true
	}
	return Fault{}, false
}

// play does what the fault due says and reports whether that was the answer.
func (f *Faults) play(rw http.ResponseWriter, r *http.Request, workspaceURL string, carryOut http.Handler) bool {
	fault, due := f.next(r.Method, r.URL.Path)
	if !due {
		return false
	}
	if fault.After {
		carryOut.ServeHTTP(&lost{header: http.Header{}}, r)
	}
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case fault.Reset:
		reset(rw)
	case fault.SignIn:
		http.Redirect(rw, r, workspaceURL+"/login.html", http.StatusFound)
	case fault.Status != 0:
		fault.answer(rw)
	default:
		return false
	}
	return true
}

func (f Fault) answer(rw http.ResponseWriter) {
	if f.RetryAfter > 0 {
		rw.Header().Set("Retry-After", strconv.FormatInt(int64((f.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if f.Body != "" {
		rw.WriteHeader(f.Status)
		_, _ = rw.Write([]byte(f.Body))
		return
	}
	code := strings.ToUpper(strings.ReplaceAll(http.StatusText(f.Status), " ", "_"))
	switch f.Status {
	case http.StatusTooManyRequests:
		code = "REQUEST_LIMIT_EXCEEDED"
	case http.StatusServiceUnavailable:
		code = "TEMPORARILY_UNAVAILABLE"
	}
	writeError(rw, f.Status, code, "A fault played by the sandbox.")
}

// reset drops the connection so that the peer sees a TCP reset.
func reset(rw http.ResponseWriter) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil { // HTTP/2, or not a connection
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// lost is where an answer goes that the caller never gets.
type lost struct{ header http.Header }

func (l *lost) Header() http.Header         { return l.header }
func (l *lost) Write(p []byte) (int, error) { return len(p), nil }
func (l *lost) WriteHeader(int)             {}
