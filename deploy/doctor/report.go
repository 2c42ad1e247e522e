package doctor

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/version"
)

// TypeName is the type constant of Report.
const TypeName = "obo.v1.doctor"

// Verdict is what came of a step, or of all.
type Verdict string

// The verdicts. Skipped is a step that another one's outcome has made pointless.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning"
	Failed  Verdict = "failed"
	Skipped Verdict = "skipped"
)

// Check is one step.
type Check struct {
	Name    string            `json:"name"`
	Verdict Verdict           `json:"verdict"`
	Detail  string            `json:"detail"`
	Remedy  string            `json:"remedy,omitzero"` // of a warning or failure
	Facts   map[string]string `json:"facts,omitzero"`
}

// Part is a part of a round trip and what it took.
type Part struct {
	Name   string `json:"name"`
	Micros int64  `json:"us"` // microseconds
}

// Report is the document that obo doctor --json prints.
type Report struct {
	Type        string     `json:"type"`
	Time        string     `json:"time"` // RFC 3339, UTC, to the second
	Version     string     `json:"version"`
	Role        relay.Role `json:"role,omitzero"` // absent without a side's configuration
	Name        string     `json:"name,omitzero"` // of the app or service
	Verdict     Verdict    `json:"verdict"`       // the worst of all
	Checks      []Check    `json:"checks"`
	RoundTrip   []Part     `json:"round_trip,omitzero"`
	RelayNeeded Needed     `json:"relay_needed,omitzero"` // with --direct
}

// Needed is what the probe of the direct way says about the relay.
type Needed string

// What it can say.
const (
	NeededYes     Needed = "yes"
	NeededNo      Needed = "no"
	NeededOutside Needed = "outside_api" // under /api/ the platform carries the person's token, elsewhere it does not
	NeededUnknown Needed = "unknown"
)

func newReport(now time.Time) *Report {
	return &Report{Type: TypeName, Time: now.UTC().Format(time.RFC3339), Version: version.Build(), Verdict: OK, Checks: []Check{}}
}

func (r *Report) add(c Check) {
	c.Detail, c.Remedy = OneLine(c.Detail), OneLine(c.Remedy)
	r.Checks = append(r.Checks, c)
	if rank(c.Verdict) > rank(r.Verdict) {
		r.Verdict = c.Verdict
	}
}

func rank(v Verdict) int {
	switch v {
	case Failed:
		return 2
	case Warning:
		return 1
	}
	return 0
}

// OneLine is a text as it can be shown: some of it comes from servers, and nothing in it may steer a terminal.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
}

// ExitCode is 0 if all is well, 1 if a step failed, 3 if there are warnings only.
func (r *Report) ExitCode() int {
	switch r.Verdict {
	case Failed:
		return 1
	case Warning:
		return 3
	}
	return 0
}

// labels have one width.
var labels = map[Verdict]string{OK: "ok  ", Warning: "WARN", Failed: "FAIL", Skipped: "-   "}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	for _, c := range r.Checks {
		fmt.Fprintf(w, "%s  %-18s %s\n", labels[c.Verdict], c.Name, c.Detail)
		if c.Remedy != "" {
			fmt.Fprintf(w, "      %-18s do: %s\n", "", c.Remedy)
		}
	}
	if len(r.RoundTrip) > 0 {
		fmt.Fprintln(w, "\na round trip:")
		for _, p := range r.RoundTrip {
			fmt.Fprintf(w, "  %-16s %9.2f ms\n", p.Name, float64(p.Micros)/1000)
		}
	}
	count := map[Verdict]int{}
	for _, c := range r.Checks {
		count[c.Verdict]++
	}
	warnings := "warnings"
	if count[Warning] == 1 {
		warnings = "warning"
	}
	fmt.Fprintf(w, "\n%d ok, %d %s, %d failed, %d skipped\n", count[OK], count[Warning], warnings, count[Failed], count[Skipped])
}
