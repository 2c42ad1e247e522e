// Package worker is the middleware's side of obo-relay: it consumes the requests that are sealed to this process, makes
// sure whose token they carry, and serves them with an ordinary [http.Handler], acting as that person.
//
//	ws, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: os.Getenv("DATABRICKS_HOST")})
//	lookup, err := worker.NewCachedLookup(worker.LookupConfig{Ask: ws.Me})
//	w, err := worker.New(worker.Config{
//		Service: "middleware", Identity: key, Trust: trust, Lookup: lookup, Handler: mux,
//		NATS: relay.ConnectConfig{URL: url, NKeySeed: seed},
//	})
//	if err != nil { … }
//	return w.Run(ctx) // until ctx ends, then drains
//
// A handler sees the request as the platform's own proxy would have passed it on, with X-Forwarded-Access-Token, -Email,
// -User and -Preferred-Username; a Go handler asks [UserFrom] and [CallFrom]. [Forward] is a handler that passes requests
// on to a middleware app on loopback, FastAPI say, unchanged. [Routes] are the worker's own: who the person is, SQL, and the
// workspace's REST API, so that a worker is of use without any app.
//
// The order in which a message is checked is that of PROTOCOL.md §8, and nothing is answered under seal before the
// request's id is burned.
package worker
