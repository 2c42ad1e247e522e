package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// egress looks whether a connection can be opened to the NATS server at all.
func (d *doctor) egress(ctx context.Context) bool {
	if brokerapp.Is(d.cfg.Side.Connect.URL) {
		return d.egressApp(ctx)
	}
	open := false
	for address := range strings.SplitSeq(d.cfg.Side.Connect.URL, ",") {
		open = d.dial(ctx, strings.TrimSpace(address)) || open
	}
	return open
}

// egressApp goes through the platform's front proxy, with the service principal's own token. What fails says what to do.
func (d *doctor) egressApp(ctx context.Context) bool {
	ctx, cancel := d.timeout(ctx)
	defer cancel()
	door, err := d.cfg.Side.Connect.Door()
	if err == nil {
		var conn net.Conn
		begin := time.Now()
		if conn, err = door.Dial(ctx); err == nil {
			_ = conn.Close() // it was opened only to see whether it can be
			d.ok("egress", fmt.Sprintf("the front proxy of %s lets this process in, and upgrades to WebSocket, in %v", door.Name(), time.Since(begin).Round(time.Millisecond)))
			return true
		}
	}
	d.fail("egress", withoutURL(err), "The broker app runs, in one instance, and this app's service principal has CAN USE on it (databricks.yml: an app resource)")
	return false
}

// dial resolves the name and opens the port that the URL names.
func (d *doctor) dial(ctx context.Context, address string) bool {
	if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	u, err := url.Parse(address)
	if err != nil { // the settings would not have passed
		return false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	if port == "" {
		port = "4222"
	}
	ctx, cancel := d.timeout(ctx)
	defer cancel()
	begin := time.Now()
	if _, err := net.DefaultResolver.LookupHost(ctx, u.Hostname()); err != nil {
		d.fail("egress", fmt.Sprintf("the name %s is not known here: %v", u.Hostname(), err), "Correct the --nats URL, or the DNS of this machine")
		return false
	}
	d.resolve = time.Since(begin)
	if err := tcp(ctx, u.Hostname(), port); err != nil {
		d.fail("egress", fmt.Sprintf("port %s of %s cannot be reached: %v%s", port, u.Hostname(), err, otherPort(ctx, u.Hostname(), port)),
			"Start the NATS server (obo-broker), correct the --nats URL, or let the network policy allow the port; where only HTTPS may leave, use NATS over WebSocket on 443 (--nats wss://… or app:NAME)")
		return false
	}
	d.ok("egress", fmt.Sprintf("port %s of %s is open", port, u.Hostname()))
	return true
}

func tcp(ctx context.Context, host, port string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	_ = conn.Close() // it was opened only to see whether it can be
	return nil
}

// otherPort tells whether the same host can be reached on the port that most networks let out. It is given a second.
func otherPort(ctx context.Context, host, port string) string {
	if port == "443" {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if tcp(ctx, host, "443") == nil {
		return " (443 of the same host is open)"
	}
	return " (nor can 443)"
}

// connectNATS logs in.
func (d *doctor) connectNATS() bool {
	cfg := d.cfg.Side.Connect
	cfg.Name = "obo doctor"
	begin := time.Now()
	nc, err := relay.ConnectOnce(cfg, nats.Timeout(d.cfg.Timeout))
	d.connect = time.Since(begin)
	if err != nil {
		what := "a connection cannot be made"
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) {
			what = "the server does not let the user " + publicKey(cfg.NKeySeed) + " in"
		}
		d.fail("nats", what+": "+withoutURL(err), cfg.Remedy(err))
		return false
	}
	d.nc = nc
	rtt, err := nc.RTT()
	if err != nil {
		d.fail("nats", withoutURL(err), relay.CodeNATSUnavailable.Info().Remedy)
		return false
	}
	facts := map[string]string{
		"server_id": nc.ConnectedServerId(), "server_version": nc.ConnectedServerVersion(), "user": publicKey(cfg.NKeySeed),
		"rtt": rtt.Round(time.Microsecond).String(), "max_payload": fmt.Sprint(nc.MaxPayload()),
	}
	if nc.MaxPayload() < relay.MinMaxPayload {
		d.add(Check{Name: "nats", Verdict: Failed, Detail: fmt.Sprintf("its max_payload is %d bytes, obo needs %d", nc.MaxPayload(), relay.MinMaxPayload), Remedy: "Raise max_payload in nats-server.conf; 1MB is better", Facts: facts})
		return true
	}
	d.add(Check{Name: "nats", Verdict: OK, Detail: fmt.Sprintf("logged in as %s, server %s %s, round trip %v", publicKey(cfg.NKeySeed), nc.ConnectedServerId(), nc.ConnectedServerVersion(), rtt.Round(time.Microsecond)), Facts: facts})
	return true
}

// publicKey is the user's, which is no secret.
func publicKey(seed string) string {
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return "without an nkey"
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return "without an nkey"
	}
	return public
}

// brokers looks whether everybody gets to the same server.
func (d *doctor) brokers(ctx context.Context) {
	if err := relay.CheckBrokers(ctx, d.cfg.Side.Connect); err != nil {
		d.fail("server ids", err.Error(), "Run exactly one instance of the broker (an app: one instance; a load balancer: one server behind it), or join the servers to a cluster")
		return
	}
	d.ok("server ids", "several connections led to the same server or cluster")
}

// hold watches a connection on which nothing but pings moves.
func (d *doctor) hold(ctx context.Context) {
	ended := make(chan error, 1)
	cfg := d.cfg.Side.Connect
	cfg.Name = "obo doctor --hold"
	nc, err := relay.ConnectOnce(cfg, nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { ended <- err }))
	if err != nil {
		d.fail("hold", withoutURL(err), relay.CodeNATSUnavailable.Info().Remedy)
		return
	}
	defer nc.Close()
	begin := time.Now()
	timer := time.NewTimer(d.cfg.Hold)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		d.skip("hold", "stopped")
	case <-timer.C:
		d.ok("hold", fmt.Sprintf("an idle connection lived for %v, as long as it was watched", d.cfg.Hold))
	case err := <-ended:
		d.warn("hold", fmt.Sprintf("an idle connection was ended after %v: %v", time.Since(begin).Round(100*time.Millisecond), err),
			"Requests survive it: both sides reconnect and go on. If it happens every few seconds, look for a proxy's limit or a server that is replaced")
	}
}

// withoutURL drops the address from an HTTP client's error, since one may hold a password.
func withoutURL(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return err.Error()
}
