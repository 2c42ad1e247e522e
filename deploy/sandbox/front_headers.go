package sandbox

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
)

// allowedHeaders are the request headers that a front proxy passes on, by
// canonical name: what browsers and HTTP libraries send of themselves, and
// trace context. Everything else is custom and is lost.
func allowedHeaders(added []string) map[string]bool {
	allowed := map[string]bool{}
	for name := range strings.FieldsSeq(`
		Accept Accept-Charset Accept-Encoding Accept-Language
		Access-Control-Request-Headers Access-Control-Request-Method
		Cache-Control Content-Disposition Content-Encoding Content-Language
		Content-Length Content-Type Cookie Date Dnt Expect
		If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since
		Last-Event-Id Origin Pragma Priority Range Referer Te
		Upgrade-Insecure-Requests User-Agent
		Sec-Ch-Ua Sec-Ch-Ua-Mobile Sec-Ch-Ua-Platform
		Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Sec-Gpc
		Connection Upgrade Sec-Websocket-Extensions Sec-Websocket-Key
		Sec-Websocket-Protocol Sec-Websocket-Version
		Traceparent Tracestate`) {
		allowed[name] = true
	}
	for _, name := range added {
		name = http.CanonicalHeaderKey(name)
		if !PlatformHeader(name) {
			allowed[name] = true
		}
	}
	return allowed
}

// PlatformHeader reports whether a header, by its canonical name, is the platform's to say: no caller's value may reach the
// app.
func PlatformHeader(name string) bool {
	switch name {
	case "Authorization", "Proxy-Authorization", "Forwarded", "X-Real-Ip", "X-Request-Id":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

// Person is what the platform tells an app of who is calling.
type Person struct {
	User     string // X-Forwarded-User
	UserName string // X-Forwarded-Preferred-Username
	Email    string // empty: none is told
	Token    string // empty: none is handed over
}

// Format hides the token from every fmt verb.
func (p Person) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, "[person "+p.UserName+"]") }

// Introduce tells the app who is calling, and from where, as the platform does.
func Introduce(pr *httputil.ProxyRequest, p Person) {
	pr.Out.Host = pr.In.Host // apps compare it with Origin
	out := pr.Out.Header
	out.Set("X-Forwarded-Host", pr.In.Host)
	out.Set("X-Forwarded-User", p.User)
	out.Set("X-Forwarded-Preferred-Username", p.UserName)
	if p.Email != "" {
		out.Set("X-Forwarded-Email", p.Email)
	}
	out.Set("X-Request-Id", newUUID())
	if ip, _, err := net.SplitHostPort(pr.In.RemoteAddr); err == nil {
		out.Set("X-Real-Ip", ip)
	}
	if p.Token != "" {
		out.Set("X-Forwarded-Access-Token", p.Token)
	}
}

// keepAllowed deletes the headers that are not allowed.
func keepAllowed(h http.Header, allowed map[string]bool) {
	for name := range h {
		if !allowed[name] {
			delete(h, name)
		}
	}
}

// dropOwnCookies takes the proxy's cookies out of the Cookie header: the app
// must not be able to act as the browser.
func (f *Front) dropOwnCookies(r *http.Request) {
	lines := r.Header["Cookie"]
	var kept []string
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if name != "" && name != f.sessionCookie() && name != f.stateCookie() {
				kept = append(kept, strings.TrimSpace(pair))
			}
		}
	}
	if len(kept) == 0 {
		r.Header.Del("Cookie")
		return
	}
	r.Header["Cookie"] = []string{strings.Join(kept, "; ")}
}
