package worker

import "net/http"

// stripSteering removes the headers by which some servers take another path than the request line's, past the policy:
// gunicorn cuts SCRIPT_NAME, from a peer on loopback, off the path before the app sees it; the X- names are those of IIS,
// of PHP frameworks, and of a well-known recipe for WSGI. X-Forwarded-Prefix and the method overrides go with StripRequest.
func stripSteering(h http.Header) {
	for name := range h {
		switch foldHeader(name) {
		case "script-name", "path-info", "x-script-name", "x-path-info", "x-original-url", "x-rewrite-url", "x-original-uri", "x-original-method":
			delete(h, name)
		}
	}
}
