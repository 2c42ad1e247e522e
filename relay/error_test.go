package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

func TestErrorIsItsCode(t *testing.T) {
	cause := io.ErrUnexpectedEOF
	err := fmt.Errorf("while testing: %w", Wrap(CodeNoWorker, cause, "nobody is there"))
	if !errors.Is(err, CodeNoWorker) || errors.Is(err, CodeTimeout) || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if e := AsError(err); e.Code != CodeNoWorker || e.Detail != "nobody is there" {
		t.Errorf("%+v", e)
	}
	if e := AsError(cause); e.Code != CodeInternal || !errors.Is(e, cause) {
		t.Errorf("%+v", e)
	}
	if e := AsError(CodeTimeout); e.Code != CodeInternal && e.Code != CodeTimeout {
		t.Errorf("%+v", e)
	}
	e := Errorf(CodeTimeout, "after %v", time.Second)
	e.RequestID = "abc"
	if got := e.Error(); got != "timeout: after 1s (request abc)" {
		t.Error(got)
	}
}

// Go code tells a timeout by the standard library's means, also where the worker noticed it first.
func TestTimeoutIsOneForTheStandardLibrary(t *testing.T) {
	for _, info := range Codes() {
		var err error = &url.Error{Op: "Get", URL: "http://middleware/", Err: (&Error{Code: info.Code}).Problem().Err()}
		timeout := info.Code == CodeTimeout
		if errors.Is(err, context.DeadlineExceeded) != timeout || os.IsTimeout(err) != timeout {
			t.Errorf("%s: deadline exceeded %v, a timeout %v", info.Code, errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err))
		}
	}
}

// The cause is for this side's log: it must not cross.
func TestProblemDoesNotCarryTheCause(t *testing.T) {
	e := Wrap(CodeUpstreamDown, errors.New(canary), "dialling")
	b, err := marshal(e.Problem())
	if err != nil || strings.Contains(string(b), canary) || !strings.Contains(e.Error(), canary) {
		t.Errorf("%s %v", b, err)
	}
}

func TestProblemRoundTrip(t *testing.T) {
	for _, info := range Codes() {
		e := &Error{Code: info.Code, Detail: "what happened", RequestID: fixedID("request").String(), After: 1500 * time.Millisecond}
		p := e.Problem()
		if p.Status != info.Status || p.Outcome != info.Outcome || p.Title != info.Title || p.RetryAfterMS != 1500 || !strings.HasSuffix(p.Type, "#"+string(info.Code)) {
			t.Errorf("%+v", p)
		}
		again := p.Err()
		if again.Code != e.Code || again.Detail != e.Detail || again.RequestID != e.RequestID || again.After != e.After || !again.Remote {
			t.Errorf("%s: %+v", info.Code, again)
		}
		if *again.Problem() != *p {
			t.Errorf("%s: a problem that is passed on reads %q, was %q", info.Code, again.Problem().Detail, p.Detail)
		}
	}
}

// A code that this side does not know keeps its name, if it is one: it stands in a URL and in logs.
func TestProblemWithAnotherCode(t *testing.T) {
	for said, want := range map[Code]Code{
		"of_tomorrow": "of_tomorrow", Code(strings.Repeat("a", 64)): Code(strings.Repeat("a", 64)),
		"": CodeInternal, "A": CodeInternal, "_a": CodeInternal, "a-b": CodeInternal, "a\r\nb": CodeInternal, "a1": CodeInternal, Code(strings.Repeat("a", 65)): CodeInternal,
	} {
		if got := (&Problem{Code: said}).Err(); got.Code != want || got.Code.Info().Status != 500 {
			t.Errorf("%q is %q", said, got.Code)
		}
	}
}

// A peer's problem is looked up in our own table: it cannot claim another status or outcome for a code.
func TestProblemOfALiar(t *testing.T) {
	p := &Problem{Code: CodeOutcomeUnknown, Status: 200, Outcome: NotDelivered, Title: "All is well", Detail: "x", RetryAfterMS: 1 << 62}
	got := p.Err().Problem()
	if got.Status != 504 || got.Outcome != Unknown || got.Title == p.Title || p.Err().After != time.Hour {
		t.Errorf("%+v", got)
	}
	if e := (&Problem{Code: "of_tomorrow", RetryAfterMS: -5}).Err(); e.Problem().Outcome != Unknown || e.Problem().Code != "of_tomorrow" || e.After != 0 {
		t.Errorf("%+v", e.Problem())
	}
}

// No problem says more than its schema has room for: the workspace may ask for a day.
func TestProblemAsksForAnHourAtMost(t *testing.T) {
	if ms := (&Error{Code: CodeRateLimited, After: 24 * time.Hour}).Problem().RetryAfterMS; ms != time.Hour.Milliseconds() {
		t.Errorf("%d ms", ms)
	}
}
