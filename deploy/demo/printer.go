package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// width is the longest line that is printed.
const width = 98

// ColorFor tells whether to print in colour: on a terminal, unless NO_COLOR is set (https://no-color.org) or TERM is dumb.
func ColorFor(w io.Writer, getenv func(string) string) bool {
	file, ok := w.(*os.File)
	if !ok || getenv("NO_COLOR") != "" || getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// printer prints the story.
type printer struct {
	out   io.Writer
	color bool
}

// Colours, by their SGR numbers (ECMA-48).
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (p printer) paint(color, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (p printer) line(text string) { fmt.Fprintln(p.out, strings.TrimRight(text, " ")) }

func (p printer) title(text string) {
	p.line("")
	p.line(p.paint(bold, text))
}

// quote prints what somebody else wrote, as it is.
func (p printer) quote(text string) {
	for l := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		p.line(p.paint(dim, "      "+l))
	}
}

// column is the width of what a line is about.
const column = 34

// result prints what a line is about and what came, wrapped into its column.
func (p printer) result(ok bool, what, got string) {
	mark := p.paint(green, "ok  ")
	if !ok {
		mark = p.paint(red, "FAIL")
	}
	p.columns("  "+mark+" ", 7, what, got)
}

func (p printer) columns(first string, indent int, what, got string) {
	lines := wrap(got, width-indent-column-1)
	for i, l := range lines {
		if i > 0 {
			first, what = strings.Repeat(" ", indent), ""
		}
		p.line(first + what + strings.Repeat(" ", max(1, column+1-utf8.RuneCountInString(what))) + l)
	}
}

// wrap breaks a text between words; a word that is too long stays whole.
func wrap(text string, width int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case utf8.RuneCountInString(*last)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, word)
		default:
			*last += " " + word
		}
	}
	return lines
}
