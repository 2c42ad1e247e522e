package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func startServer(t *testing.T, opts server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.Port, opts.NoLog, opts.NoSigs = "127.0.0.1", -1, true, true
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	return srv
}

func TestCheckBrokers(t *testing.T) {
	t.Parallel()
	one, other := startServer(t, server.Options{}), startServer(t, server.Options{})
	cluster := server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: -1}
	first, second := startServer(t, server.Options{Cluster: cluster}), startServer(t, server.Options{Cluster: cluster})
	check := func(urls ...string) error {
		return CheckBrokers(t.Context(), ConnectConfig{URL: strings.Join(urls, ",")})
	}
	for name, urls := range map[string][]string{
		"one": {one.ClientURL()}, "the same twice": {one.ClientURL(), one.ClientURL()}, "a cluster": {first.ClientURL(), second.ClientURL()},
		"nobody": {"nats://127.0.0.1:1"}, "one is away": {"nats://127.0.0.1:1", one.ClientURL()},
	} {
		if err := check(urls...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, urls := range map[string][]string{
		"two": {one.ClientURL(), other.ClientURL()}, "one beside a cluster": {one.ClientURL(), first.ClientURL()},
	} {
		if err := check(urls...); err == nil || !strings.Contains(err.Error(), "2 NATS servers that do not know of each other answer at "+strings.Join(urls, ",")) || !strings.Contains(err.Error(), "one instance") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := CheckBrokers(ended, ConnectConfig{URL: one.ClientURL() + "," + other.ClientURL()}); err != nil {
		t.Error(err)
	}
}

func TestConnectOnceSaysWhy(t *testing.T) {
	t.Parallel()
	cfg := ConnectConfig{URL: "nats://127.0.0.1:1"}
	_, err := ConnectOnce(cfg)
	if err == nil || !strings.Contains(cfg.Remedy(err), "start the NATS server") {
		t.Error(err)
	}
	closed := startServer(t, server.Options{Username: "u", Password: "p"})
	_, err = ConnectOnce(ConnectConfig{URL: closed.ClientURL()})
	if err == nil || !strings.Contains(cfg.Remedy(err), "put its public key into the server's configuration") {
		t.Error(err)
	}
	nc, err := ConnectOnce(ConnectConfig{URL: startServer(t, server.Options{}).ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}
