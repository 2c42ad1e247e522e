package broker

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// state is what may be told to everybody who may open the app.
func (b *Broker) state() brokerapp.Status {
	return brokerapp.Status{
		Type: brokerapp.StatusTypeName, ServerID: b.server.ID(), Version: server.VERSION,
		Started: b.begun, Connections: b.server.NumClients(),
	}
}

// page answers the paths that are nobody else's.
func (b *Broker) page(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	b.status(w, r)
}

// status tells programs and people which server this is.
func (b *Broker) status(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "This is a NATS server: connect with NATS over WebSocket.", http.StatusMethodNotAllowed)
		return
	}
	state := b.state()
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		h.Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(state) // the caller may have left
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	err := pageTemplate.Execute(w, struct {
		brokerapp.Status
		App, Up string
	}{state, b.cfg.App.Name, time.Since(state.Started).Round(time.Second).String()})
	if err != nil {
		b.cfg.Log.Debug("page", "error", err)
	}
}
