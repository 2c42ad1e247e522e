package demo

import "net/http"

// newProgram is an HTTP client as a program uses one: no cookies, no redirects, no proxy.
func newProgram() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       patience,
	}
}
