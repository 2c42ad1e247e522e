package chaos

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// head is a request line and the fields that every request has.
func head(line string, fields ...string) string {
	all := append([]string{line + " HTTP/1.1", "Host: HOST", "X-Forwarded-Access-Token: TOKEN"}, fields...)
	return strings.Join(all, "\r\n") + "\r\n\r\n"
}

func withBody(line, body string, fields ...string) string {
	return head(line, append(fields, "Content-Length: "+strconv.Itoa(len(body)))...) + body
}

// chunked is a request in chunks of at most n bytes, with trailer fields.
func chunked(line, body string, n int, trailer []string, fields ...string) string {
	fields = append(fields, "Transfer-Encoding: chunked")
	if len(trailer) > 0 {
		var names []string
		for _, field := range trailer {
			name, _, _ := strings.Cut(field, ":")
			names = append(names, name)
		}
		fields = append(fields, "Trailer: "+strings.Join(names, ", "))
	}
	var out strings.Builder
	out.WriteString(head(line, fields...))
	for len(body) > 0 {
		part := body[:min(n, len(body))]
		body = body[len(part):]
		fmt.Fprintf(&out, "%x\r\n%s\r\n", len(part), part)
	}
	out.WriteString("0\r\n")
	for _, field := range trailer {
		out.WriteString(field + "\r\n")
	}
	return out.String() + "\r\n"
}

func behaviours() []behaviour {
	large := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	var all []behaviour
	add := func(name, raw, contains string) {
		all = append(all, behaviour{name: name, raw: raw, contains: contains})
	}
	for code := 200; code <= 599; code++ {
		if http.StatusText(code) != "" || code%50 == 0 || code == 299 || code == 499 || code == 599 {
			add(fmt.Sprint("status ", code), head(fmt.Sprint("GET /status/", code)), fmt.Sprint(code, " "))
		}
	}
	for _, code := range []int{200, 201, 204, 205, 304, 404, 500} {
		add(fmt.Sprint("no body ", code), head(fmt.Sprint("GET /empty/", code)), fmt.Sprint(code, " "))
		add(fmt.Sprint("HEAD ", code), head(fmt.Sprint("HEAD /status/", code)), fmt.Sprint(code, " "))
	}
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "M-SEARCH", "get", "x!#$%&'*+-.^_`|~"} {
		add("method "+method, head(method+" /any"), method+" /any")
		if method != "TRACE" { // net/http's client sends no body with it, nor does ours
			add("method with body "+method, withBody(method+" /any", "a body"), `\"a body\"`)
		}
	}
	add("HEAD", head("HEAD /length"), "length=100000")
	add("HEAD of a stream", head("HEAD /chunked"), "200")

	// Header fields.
	add("reply headers", head("GET /headers"), "caf\\xe9")
	add("repeated fields", head("GET /any", "X-R: one", "X-R: two", "X-R:", "X-R: three, four"), "three, four")
	add("empty fields", head("GET /any", "X-Empty:", "X-Spaces:    "), "X-Empty")
	add("odd names and spaces", head("GET /any", "x-lower: 1", "X-UPPER: 2", "x!#$%&'*+.^_`|~: 3", "X-Trim: \t padded \t "), "padded")
	add("field bytes over 0x7F", head("GET /any", "X-Latin: caf\xe9", "X-Utf8: caf\xc3\xa9 \xe2\x98\x95"), "xe9")
	add("many fields", head("GET /any", manyFields(200)...), "X-Field-199")
	add("a long field", head("GET /any", "X-Long: "+strings.Repeat("l", 20_000)), "X-Long")
	add("cookies", head("GET /any", "Cookie: a=1; b=2", "Cookie: c=\"3\""), "Cookie")
	add("accept and user agent", head("GET /any", "Accept: */*;q=0.1, text/html", "User-Agent: Test/1 (a; b)", "Accept-Language: de, en;q=0.5", "Referer: http://x.example/"), "Test/1")
	add("accept-encoding", head("GET /gzip", "Accept-Encoding: gzip, br"), "gzip")
	add("no accept-encoding", head("GET /any"), "")
	add("gzip is not touched", head("GET /gzip"), "gzip")
	add("range", head("GET /range", "Range: bytes=10-19"), "bytes 10-19/1000")
	add("several ranges", head("GET /range", "Range: bytes=2000-3000"), "416")
	add("conditional", head("GET /range", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT"), "304")
	add("content type not to be guessed", head("GET /untyped"), "body")
	add("content type of a stream not to be guessed", head("GET /untyped-stream"), "body")
	add("content type of an upload", withBody("POST /any", "{}", "Content-Type: application/json; charset=utf-8", "Content-Encoding: identity"), "application/json")
	add("digest and etags", withBody("PUT /any", "x", `If-Match: "a", "b"`, "Repr-Digest: sha-256=:x:", "Content-MD5: x"), "Repr-Digest")
	add("traceparent", head("GET /any", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b"), "Traceparent")

	// Targets.
	for name, target := range map[string]string{
		"root": "/", "percent-encoded UTF-8": "/any/caf%C3%A9/%E2%98%95", "lower-case escapes": "/any/caf%c3%a9", "encoded Latin-1": "/any/caf%E9",
		"encoded space and percent": "/any/a%20b%25c", "encoded reserved": "/any/a%3Fb%23c%3Bd%40", "reserved as they are": "/any/a;b=c,d@e:f!$&'()*+~",
		"trailing slash": "/any/x/", "brackets": "/any/[x]", "query": "/any?a=1&b=2&a=3", "query of semicolons": "/any?a;b;c=1",
		"query of escapes": "/any?q=%2F%2e%2E%5C%00%zz", "query with ?": "/any?a=?/b?c", "query of empty parts": "/any?&&a&=b&",
		"query in UTF-8 escapes": "/any?q=caf%C3%A9+%E2%98%95", "query odd but visible": "/any?q={x}|^`\"<>[]\\", "long path": "/any/" + strings.Repeat("p/", 4000),
		"long query": "/any?q=" + strings.Repeat("q", 20_000), "dots inside": "/any/a..b/...c/.d",
	} {
		add("target: "+name, head("GET "+target), "GET /")
	}

	// Bodies.
	add("empty body with length", withBody("POST /any", ""), "length=0")
	add("small body", withBody("POST /any", "small"), "length=5")
	add("large body", withBody("POST /any", large), "length=1048576")
	add("chunked", chunked("POST /any", "some chunks", 3, nil), "transfer=[chunked]")
	add("chunked and large", chunked("PUT /any", large, 5000, nil), "transfer=[chunked]")
	add("chunked and empty", chunked("POST /any", "", 1, nil), "POST /any")
	add("GET in chunks that are none, with a trailer", chunked("GET /any", "", 1, []string{"X-Sum: abc"}), `X-Sum: \"abc\"`)
	add("reply with length", head("GET /length"), "length=100000")
	add("reply in chunks", head("GET /chunked"), "transfer=[chunked]")
	add("body not read by the backend", withBody("POST /unread", "not read"), "did not read")
	add("large body not read by the backend", withBody("POST /unread", large[:200_000]), "did not read")
	add("request trailers", chunked("POST /any", "with trailers", 4, []string{"X-Sum: abc", "X-Other: d"}), `X-Sum: \"abc\"`)
	add("reply trailers", head("GET /trailers", "TE: trailers"), `X-Late: "l"`)
	add("reply trailers not asked for", head("GET /trailers"), `X-Declared: "d"`)

	// Redirects, informational replies, HTTP/1.0.
	for _, code := range []int{301, 302, 303, 307, 308} {
		add(fmt.Sprint("redirect ", code), head(fmt.Sprint("GET /redirect/", code)), "elsewhere.example")
	}
	add("early hints", head("GET /hints"), "103 length")
	all = append(all,
		behaviour{name: "two requests on one connection", raw: withBody("POST /any", "first"), send: twice, contains: "POST /any"},
		behaviour{name: "two large uploads on one connection", raw: withBody("POST /any", large), send: twice, contains: "POST /any"},
		behaviour{name: "two chunked uploads on one connection", raw: chunked("POST /any", large, 7000, nil), send: twice, contains: "POST /any"},
		behaviour{name: "expect 100-continue", raw: withBody("POST /any", "expected", "Expect: 100-continue"), send: expecting, contains: "100 length"},
		behaviour{name: "expect 100-continue, large", raw: withBody("POST /any", large, "Expect: 100-continue"), send: expecting, contains: "100 length"},
		behaviour{name: "expect 100-continue, refused", raw: withBody("POST /early", large, "Expect: 100-continue"), send: expectingFinal, contains: "413"},
		behaviour{name: "more hints than are passed on", raw: head("GET /many-hints"), send: finalAlone, contains: "after many hints"},
		behaviour{name: "early reply to a large upload", raw: withBody("POST /early", large+large+large), send: finalOnly, contains: "413"},
		behaviour{name: "early reply to a large chunked upload", raw: chunked("POST /early", large+large+large, 10_000, nil), send: finalOnly, contains: "413"},
		behaviour{name: "aborted upload", raw: withBody("POST /aside", large), send: abortedAt(len(large) / 2), aside: true, contains: "broken off: true"},
		behaviour{name: "aborted small upload", raw: withBody("POST /aside", large[:100_000]), send: abortedAt(99_000), aside: true, contains: "broken off: true"},
		behaviour{name: "aborted chunked upload", raw: chunked("POST /aside", large, 5000, nil), send: abortedAt(len(large) / 2), aside: true, contains: "broken off: true"},
		behaviour{name: "reply of a handler that dies", raw: head("GET /die"), contains: "broke off"},
		behaviour{name: "slow reply with length", raw: head("GET /slow"), slow: true, contains: "later"},
		behaviour{name: "HTTP/1.0", raw: "GET /any HTTP/1.0\r\nHost: HOST\r\nX-Forwarded-Access-Token: TOKEN\r\n\r\n", contains: "GET /any"},
		behaviour{name: "HTTP/1.0 in chunks", raw: "GET /chunked HTTP/1.0\r\nHost: HOST\r\nX-Forwarded-Access-Token: TOKEN\r\n\r\n", contains: "chunk 4"},
	)
	return all
}

func manyFields(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("X-Field-%d: value %d", i, i))
	}
	return out
}

// twice sends the request a second time when the first has been answered.
func twice(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string {
	t.Helper()
	return plainly(t, conn, in, raw) + plainly(t, conn, in, raw)
}

// expecting sends the body only when it is asked for.
func expecting(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string {
	t.Helper()
	top, body, _ := strings.Cut(raw, "\r\n\r\n")
	if _, err := io.WriteString(conn, top+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(in, &http.Request{Method: "POST"})
	if err != nil {
		return "no answer: " + kind(err)
	}
	first := dump(resp)
	if resp.StatusCode != http.StatusContinue {
		return first
	}
	go func() { _, _ = io.WriteString(conn, body) }()
	return first + answers(in, "POST")
}

// expectingFinal passes over the 100: the relay gives it itself when it reads the body.
func expectingFinal(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string {
	t.Helper()
	_, final, _ := strings.Cut("\n"+expecting(t, conn, in, raw), "\n413 ")
	return "413 " + final
}

// finalAlone leaves informational answers out.
func finalAlone(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string {
	t.Helper()
	all := "\n" + plainly(t, conn, in, raw)
	return all[max(strings.LastIndex(all, "\n200 "), 0):]
}

// finalOnly keeps the status and body of an answer that ends the connection.
func finalOnly(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string {
	t.Helper()
	go func() { _, _ = io.WriteString(conn, raw) }() // the other side stops reading
	resp, err := http.ReadResponse(in, &http.Request{Method: "POST"})
	if err != nil {
		return "no answer: " + kind(err)
	}
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %q %v", resp.StatusCode, body, err)
}

// abortedAt leaves after that many bytes of the body.
func abortedAt(n int) func(*testing.T, net.Conn, *bufio.Reader, string) string {
	return func(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string {
		t.Helper()
		top, body, _ := strings.Cut(raw, "\r\n\r\n")
		if _, err := io.WriteString(conn, top+"\r\n\r\n"+body[:n]); err != nil {
			t.Fatal(err)
		}
		if begun, err := http.ReadResponse(in, nil); err != nil || begun.StatusCode != http.StatusEarlyHints { // else nobody need hear of it
			t.Fatalf("no 103: %+v, %v", begun, err)
		}
		_ = conn.Close()
		return ""
	}
}
