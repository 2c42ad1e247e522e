package demo

import (
	"embed"
	"io/fs"
	"net"
	"net/http"
	"slices"
)

//go:embed page
var pageFiles embed.FS

// page is the handler of "obo up". It shows what the stage does; everything that it shows is harmless, tokens are
// shortened, and it is for browsers on this machine only.
type page struct {
	stage    *Stage
	commands commands
	port     string
	mux      *http.ServeMux
}

// newPage makes the page that is served at an address.
func newPage(s *Stage, c commands, address string) http.Handler {
	_, port, _ := net.SplitHostPort(address) // of a listener
	p := &page{stage: s, commands: c, port: port, mux: http.NewServeMux()}
	files, _ := fs.Sub(pageFiles, "page") // is embedded
	p.mux.Handle("GET /", http.FileServerFS(files))
	p.mux.HandleFunc("GET /api/stage", p.about)
	p.mux.HandleFunc("GET /api/messages", p.messages)
	p.mux.HandleFunc("POST /api/calls", p.calls)
	return http.NewCrossOriginProtection().Handler(p)
}

// ServeHTTP refuses what does not come from the page itself: another name for this machine (DNS rebinding), and other
// sites' pages.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !slices.Contains([]string{"127.0.0.1:" + p.port, "localhost:" + p.port, "[::1]:" + p.port}, r.Host) {
		http.Error(w, "This page answers to its loopback address only.", http.StatusForbidden)
		return
	}
	if site := r.Header.Get("Sec-Fetch-Site"); r.URL.Path != "/" && site != "" && site != "same-origin" {
		http.Error(w, "The request comes from another page.", http.StatusForbidden)
		return
	}
	p.mux.ServeHTTP(w, r)
}

// visitor is one whom the page can call as.
type visitor struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Note     string    `json:"note"`
	As       string    `json:"as"` // "Try it yourself, …"
	Commands []command `json:"commands"`
}

// about answers GET /api/stage: who can call, and what to copy.
func (p *page) about(w http.ResponseWriter, _ *http.Request) {
	list := []visitor{
		{ID: VisitorAlice, Name: "alice", Note: groupAdmins + ", " + groupAnalysts, As: "as alice"},
		{ID: VisitorBob, Name: "bob", Note: groupAnalysts, As: "as bob"},
		{ID: VisitorExpired, Name: "expired token", Note: "alice, page left open too long", As: "with an expired token"},
		{ID: VisitorNoScope, Name: "missing scope", Note: "alice, token may not ask who she is", As: "with a scope missing"},
	}
	for i := range list {
		list[i].Commands = p.commands.of(list[i].ID)
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"visitors": list, "ui": p.stage.UI, "front": p.stage.Front, "sidecar": p.stage.Sidecar,
		"workspace": p.stage.Workspace.URL(), "nats": p.stage.NATS,
	})
}
