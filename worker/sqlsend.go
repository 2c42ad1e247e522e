package worker

import (
	"bufio"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/obo-relay/obo-relay/relay"
)

// rowSender buffers what becomes the reply's body. Until it is flushed, or has more than it can hold, nothing has been
// said, and a failure can still be answered as one.
type rowSender struct {
	*bufio.Writer
	w    http.ResponseWriter
	sent bool
}

func newRowSender(w http.ResponseWriter) *rowSender {
	s := &rowSender{w: w}
	s.Writer = bufio.NewWriterSize(sending{s}, 64<<10)
	return s
}

type sending struct{ s *rowSender }

func (t sending) Write(p []byte) (int, error) {
	t.s.sent = true
	return t.s.w.Write(p)
}

// flush sends what there is.
func (s *rowSender) flush() error {
	if err := s.Flush(); err != nil {
		return err
	}
	if !s.sent {
		return nil
	}
	return http.NewResponseController(s.w).Flush()
}

// finish ends the reply, with an error if there is one.
func (s *rowSender) finish(e *relay.Error, format *sqlFormat) {
	switch {
	case e == nil:
		_ = s.Flush() // shows in the end of the reply
		return
	case !s.sent:
		clear(s.w.Header())
		s.w.Header().Set("Cache-Control", "no-store")
		end(s.w, e, true)
		return
	}
	if format == formatNDJSON {
		problem := e.Problem()
		problem.Outcome = relay.Unknown
		line, _ := json.Marshal(map[string]any{"obo_error": problem}) // strings and numbers
		_, _ = s.Write(append(line, '\n'))                            // the broken body tells the rest
	}
	_ = s.flush() // as above
	breakOff(s.w, e)
}
