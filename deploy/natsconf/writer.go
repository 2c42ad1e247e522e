package natsconf

import (
	"fmt"
	"strconv"
	"strings"
)

// writer writes indented lines of nats-server's configuration language.
type writer struct {
	b     strings.Builder
	depth int
}

func (w *writer) String() string { return w.b.String() }

func (w *writer) line(format string, args ...any) {
	w.b.WriteString(strings.Repeat("  ", w.depth))
	fmt.Fprintf(&w.b, format, args...)
	w.b.WriteByte('\n')
}

func (w *writer) comment(text string) { w.line("%s", "# "+text) }

func (w *writer) blank() { w.b.WriteByte('\n') }

func (w *writer) open(text string) {
	w.line("%s", text)
	w.depth++
}

func (w *writer) close(text string) {
	w.depth--
	w.line("%s", text)
}

// rules writes one subject a line with its reason beside it, in columns.
func (w *writer) rules(name string, rules []rule) {
	width := 0
	for _, r := range rules {
		width = max(width, len(strconv.Quote(r.subject)))
	}
	w.open(name + ": [")
	for _, r := range rules {
		w.line("%-*s # %s", width, strconv.Quote(r.subject), r.why)
	}
	w.close("]")
}
