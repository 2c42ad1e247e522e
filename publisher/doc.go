// Package publisher is the UI's side of obo-relay: an [http.RoundTripper] that carries a request, and the person's access
// token sealed, over NATS to a worker of the named service.
//
//	t, err := publisher.New(publisher.Config{App: "ui", Identity: key, Trust: trust, NATS: relay.ConnectConfig{URL: url, NKeySeed: seed}})
//	if err != nil { … }
//	go t.Run(ctx)
//	client := &http.Client{Transport: t}
//
//	req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://middleware/groups", nil)
//	req.Header.Set("X-Forwarded-Access-Token", r.Header.Get("X-Forwarded-Access-Token"))
//	resp, err := client.Do(req) // the middleware acts as the person
//
// The URL's host is the name of the service. The token is taken from the request's X-Forwarded-Access-Token or
// Authorization: Bearer header, anew for every request, and leaves this process only sealed to one worker process.
//
// A response is always the handler's own. Everything else is a *[relay.Error] with a code:
//
//	if errors.Is(err, relay.CodeTokenExpired) { … }
//
// [NewSidecar] wraps a Transport as an [http.Handler] for apps in other languages. Package observe makes traces and metrics.
package publisher
