package relay

import "net/http"

// Unguessed returns w without net/http's habit of guessing a missing Content-Type from the first bytes: a proxy passes on
// what it was given, and a browser treats what was guessed as if the app had said it.
func Unguessed(w http.ResponseWriter) http.ResponseWriter { return &unguessed{w} }

type unguessed struct{ http.ResponseWriter }

func (u *unguessed) WriteHeader(status int) {
	h := u.Header()
	if _, set := h["Content-Type"]; !set && status >= 200 {
		h["Content-Type"] = nil
	}
	u.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (u *unguessed) Unwrap() http.ResponseWriter { return u.ResponseWriter }
