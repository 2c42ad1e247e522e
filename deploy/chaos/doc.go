// Package chaos holds the long and the destructive tests of the whole path: HTTP client, sidecar, NATS, worker, HTTP backend.
// Bodies of every awkward size, HTTP compared with and without the relay, processes killed at random moments, brokers and
// workers restarted under load, connections cut, a thousand streams, memory over many requests.
//
// By default each test runs a short version. OBO_LONG=1 runs the long one; OBO_KILLS=n sets the number of kills.
package chaos
