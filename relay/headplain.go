package relay

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Nearly every head is plain: text of printable ASCII that JSON does not escape, members in our order, fields sorted. That one
// spelling is written and read here, in a third of the time that reflection takes, which was a twentieth of a small request's.
// What is not plain, or not exactly so spelled, goes the way of every other document (json.go), which alone decides what is
// refused.

// appendPlain appends the head as marshal would render it; false if it is not plain.
func (h *RequestHead) appendPlain(b []byte) ([]byte, bool) {
	w := plainWriter{b: b, plain: true}
	w.raw(`{"method":`).text(h.Method)
	w.raw(`,"path":`).text(h.Path)
	if h.Query != "" {
		w.raw(`,"query":`).text(h.Query)
	}
	w.raw(`,"header":`).fields(h.Header)
	w.raw(`,"length":`).number(h.Length)
	w.trailer(h.Trailer)
	w.raw(`,"subject":`).text(h.Subject)
	w.raw(`,"reply":`).text(h.Reply)
	w.raw(`,"iat_ms":`).number(h.IssuedAt)
	w.raw(`,"timeout_ms":`).number(h.TimeoutMS)
	w.raw(`}`)
	return w.b, w.plain
}

func (h *ReplyHead) appendPlain(b []byte) ([]byte, bool) {
	w := plainWriter{b: b, plain: h.Refusal == nil && h.Failure == nil}
	w.raw(`{"status":`).number(int64(h.Status))
	w.raw(`,"header":`).fields(h.Header)
	w.raw(`,"length":`).number(h.Length)
	w.trailer(h.Trailer)
	w.raw(`}`)
	return w.b, w.plain
}

// readPlain reads what appendPlain makes; false if it is spelled in any other way, and h is then to be forgotten.
func (h *RequestHead) readPlain(document string) bool {
	r := plainReader{document, true}
	r.raw(`{"method":`)
	h.Method = r.text()
	r.raw(`,"path":`)
	h.Path = r.text()
	if r.next(`,"query":`) {
		h.Query = r.text()
	}
	r.raw(`,"header":`)
	h.Header = r.fields()
	r.raw(`,"length":`)
	h.Length = r.number()
	h.Trailer = r.trailer()
	r.raw(`,"subject":`)
	h.Subject = r.text()
	r.raw(`,"reply":`)
	h.Reply = r.text()
	r.raw(`,"iat_ms":`)
	h.IssuedAt = r.number()
	r.raw(`,"timeout_ms":`)
	h.TimeoutMS = r.number()
	r.raw(`}`)
	return r.end()
}

func (h *ReplyHead) readPlain(document string) bool {
	r := plainReader{document, true}
	r.raw(`{"status":`)
	status := r.number()
	h.Status = int(status)
	r.plain = r.plain && int64(h.Status) == status
	r.raw(`,"header":`)
	h.Header = r.fields()
	r.raw(`,"length":`)
	h.Length = r.number()
	h.Trailer = r.trailer()
	r.raw(`}`)
	return r.end()
}

// isPlain reports whether s stands in JSON as it is, and only so.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

type plainWriter struct {
	b     []byte
	plain bool
}

func (w *plainWriter) raw(s string) *plainWriter {
	w.b = append(w.b, s...)
	return w
}

func (w *plainWriter) text(s string) {
	w.plain = w.plain && isPlain(s)
	w.b = append(append(append(w.b, '"'), s...), '"')
}

func (w *plainWriter) number(n int64) { w.b = strconv.AppendInt(w.b, n, 10) }

func (w *plainWriter) texts(list []string) {
	w.raw(`[`)
	for i, s := range list {
		if i > 0 {
			w.raw(`,`)
		}
		w.text(s)
	}
	w.raw(`]`)
}

func (w *plainWriter) trailer(names []string) {
	if len(names) > 0 {
		w.raw(`,"trailer":`).texts(names)
	}
}

func (w *plainWriter) fields(h http.Header) {
	names := make([]string, 0, 32) // on the stack, for as many
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	w.raw(`{`)
	for i, name := range names {
		if i > 0 {
			w.raw(`,`)
		}
		w.text(name)
		w.raw(`:`).texts(h[name])
	}
	w.raw(`}`)
}

// plainReader takes a document apart from its beginning. Texts are parts of the document, which one copy serves them all.
type plainReader struct {
	rest  string
	plain bool
}

// end reports whether all of the document was what was asked for.
func (r *plainReader) end() bool { return r.plain && r.rest == "" }

func (r *plainReader) next(s string) (found bool) {
	r.rest, found = strings.CutPrefix(r.rest, s)
	return found
}

func (r *plainReader) raw(s string) {
	if !r.next(s) {
		r.plain = false
	}
}

func (r *plainReader) text() string {
	r.raw(`"`)
	s, rest, found := strings.Cut(r.rest, `"`)
	if !r.plain || !found || !isPlain(s) {
		r.plain = false
		return ""
	}
	r.rest = rest
	return s
}

// number reads an integer that int64 is sure to hold. Another one is not plain.
func (r *plainReader) number() int64 {
	i := 0
	for i < len(r.rest) && (r.rest[i] == '-' || '0' <= r.rest[i] && r.rest[i] <= '9') {
		i++
	}
	n, err := strconv.ParseInt(r.rest[:i], 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != r.rest[:i] { // JSON knows no leading zeros
		r.plain = false
	}
	r.rest = r.rest[i:]
	return n
}

func (r *plainReader) texts(list []string) []string {
	r.raw(`[`)
	for r.plain && !r.next(`]`) {
		if len(list) > 0 {
			r.raw(`,`)
		}
		list = append(list, r.text())
	}
	return list
}

func (r *plainReader) trailer() []string {
	if !r.next(`,"trailer":`) {
		return nil
	}
	return r.texts([]string{})
}

// fields reads header fields in strictly ascending order, so that none can come twice.
func (r *plainReader) fields() http.Header {
	out := http.Header{}
	var one []string // backs the many fields with one value
	last := ""
	r.raw(`{`)
	for r.plain && !r.next(`}`) {
		if len(out) > 0 {
			r.raw(`,`)
		}
		name := r.text()
		r.raw(`:`)
		if len(out) > 0 && name <= last {
			r.plain = false
		}
		if len(one) == 0 {
			one = make([]string, 8)
		}
		out[name], last = r.texts(one[:0:1]), name
		one = one[1:]
	}
	return out
}
