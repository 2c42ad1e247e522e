package demo

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/obo-relay/obo-relay/relay"
)

// pageMessage is a NATS message as the page shows it.
type pageMessage struct {
	Number  int               `json:"number"`
	Time    string            `json:"time"`
	Kind    string            `json:"kind"`
	Subject string            `json:"subject"`
	Reply   string            `json:"reply,omitempty"`
	Header  map[string]string `json:"header,omitempty"`
	Size    int               `json:"size"`
	Dump    string            `json:"dump"`
}

// messages answers GET /api/messages: server-sent events (WHATWG HTML §9.2), one for each message on obo.v1.>, as the
// inspector's subscription sees it. It begins with the last ones.
func (p *page) messages(w http.ResponseWriter, r *http.Request) {
	subjects, err := relay.NewSubjects(p.stage.Files.Config.SubjectPrefix)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	const backlog = 40
	recorded, changed := p.stage.recorder.since(0)
	recorded = recorded[max(0, len(recorded)-backlog):]
	last := 0
	for {
		for _, m := range recorded {
			last = m.Number
			if !p.send(w, subjects, m) {
				return
			}
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		recorded, changed = p.stage.recorder.since(last)
	}
}

// send writes one event and reports whether the browser is still there.
func (p *page) send(w http.ResponseWriter, subjects relay.Subjects, m Message) bool {
	kind := kindOf(subjects.Parse(m.Subject).Kind)
	if kind == "" {
		return true // not the relay's
	}
	const shown = 256
	view := pageMessage{
		Number: m.Number, Time: m.Time.Format("15:04:05.000"), Kind: kind, Subject: m.Subject, Reply: m.Reply,
		Size: len(m.Data), Dump: hex.Dump(m.Data[:min(shown, len(m.Data))]), Header: map[string]string{},
	}
	for name := range m.Header {
		view.Header[name] = m.Header.Get(name)
	}
	text, err := json.Marshal(view)
	if err != nil {
		return false
	}
	_, err = fmt.Fprintf(w, "data: %s\n\n", text)
	return err == nil
}

// kindOf names a message of the relay; empty for any other.
func kindOf(kind relay.Kind) string {
	switch kind {
	case relay.KindAnnounce:
		return "announce"
	case relay.KindDiscover:
		return "discover"
	case relay.KindRequest:
		return "request"
	case relay.KindControl:
		return "control"
	case relay.KindReply:
		return "reply"
	}
	return ""
}
