package dev

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// announce says what runs where, and as whom.
func (s *stage) announce() {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(s.cfg.Out, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	open := "http://" + s.front.Addr().String()
	fmt.Fprintln(s.cfg.Out, "obo dev: the relay runs on this machine only")
	line("person", "%s%s", s.user.UserName, s.groups())
	workspace := s.cfg.Workspace
	if s.cfg.Sandbox {
		workspace += " (a sandbox: give it to the middleware app as DATABRICKS_HOST, and for SQL any DATABRICKS_WAREHOUSE_ID)"
	}
	line("workspace", "%s", workspace)
	for i, service := range s.cfg.Services {
		variable, address, _ := strings.Cut(s.routes[i], "=")
		note := ""
		if u, err := url.Parse(service.URL); err == nil && !dial(context.Background(), hostPort(u)) {
			note = "  NOTHING ANSWERS THERE YET: start it"
		}
		line("service", "%s at %s, for the UI app %s=%s%s", service.Name, service.URL, variable, address, note)
	}
	line("UI app", "http://%s", s.appAddress())
	line("files", "%s", s.Files.Config.Dir)
	line("open", "%s", open)
	fmt.Fprintf(s.cfg.Out, "Whoever reaches %s acts as %s, without a password.\n", open, s.user.UserName)
}

func (s *stage) groups() string {
	const most = 5
	switch n := len(s.user.Groups); {
	case n == 0:
		return ""
	case n > most:
		return fmt.Sprintf(" (%s and %d more groups)", strings.Join(s.user.Groups[:most], ", "), n-most)
	}
	return " (" + strings.Join(s.user.Groups, ", ") + ")"
}

func hostPort(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Host
	case u.Scheme == "https":
		return u.Host + ":443"
	}
	return u.Host + ":80"
}

// tellWhenReady points to the front proxy when the UI app listens, since by then the app has printed an address of its own.
func (s *stage) tellWhenReady(ctx context.Context) {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for !dial(ctx, s.appAddress()) {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
	fmt.Fprintf(s.cfg.Out, "obo dev: the UI app is ready: open http://%s as %s (not the address that the app itself prints)\n", s.front.Addr(), s.user.UserName)
}
