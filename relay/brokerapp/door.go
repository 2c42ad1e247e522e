package brokerapp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Config says which door, and who goes in.
type Config struct {
	Address   string      // app:NAME, or https://HOST. Required.
	Workspace string      // whose Apps API knows the name. Required for app:NAME.
	Tokens    TokenSource // Required.
	CAFile    string      // certificate authority of the platform, PEM. Defaults to the system's
	Log       *slog.Logger
}

// Door leads to the NATS server of a broker app. Its methods may be called at any time, from any goroutine.
type Door struct {
	cfg       Config
	name      string   // of the app; empty with a fixed URL
	workspace *url.URL // with a name
	client    *http.Client

	mu  sync.Mutex
	app *App // once it is known
}

// New checks the configuration. It makes no call.
func New(cfg Config) (*Door, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Door{cfg: cfg}
	var err error
	var at *url.URL
	if d.name, at, err = parseAddress(cfg.Address); err != nil {
		return nil, err
	}
	if at != nil {
		d.app = &App{URL: at}
	} else if d.workspace, err = ParseHost(cfg.Workspace); err != nil {
		return nil, err
	}
	if cfg.Tokens == nil {
		return nil, errors.New("no token source")
	}
	d.client, err = NewClient(cfg.CAFile)
	return d, err
}

// NewClient returns a client for calls that carry a token: it follows no redirect, keeps no connection, and speaks
// HTTP/1.1, which the upgrade needs.
func NewClient(caFile string) (*http.Client, error) {
	roots := &tls.Config{}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		roots.RootCAs = x509.NewCertPool()
		if !roots.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", caFile)
		}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: roots, Protocols: protocols, DisableKeepAlives: true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Name is what the door is called in messages: the name of the app, or its host.
func (d *Door) Name() string {
	if d.name != "" {
		return d.name
	}
	return d.app.URL.Host
}

// Dial opens a connection that speaks NATS. What is wrong is said with its remedy, and never with a token.
func (d *Door) Dial(ctx context.Context) (net.Conn, error) {
	var conn *websocket.Conn
	err := d.enter(ctx, func(at *url.URL, header http.Header) (*http.Response, error) {
		c, response, err := websocket.Dial(ctx, at.String(), &websocket.DialOptions{HTTPClient: d.client, HTTPHeader: header})
		conn = c
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
			return response, nil
		}
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return netConn{websocket.NetConn(context.Background(), conn, websocket.MessageBinary), conn}, nil
}

// netConn is a NATS connection in binary messages. To close it is not to wait for the other side's farewell.
type netConn struct {
	net.Conn
	socket *websocket.Conn
}

func (c netConn) Close() error { return c.socket.CloseNow() }

// enter makes one call at the door with a token. An answer that call returns was not what it wanted.
func (d *Door) enter(ctx context.Context, call func(at *url.URL, header http.Header) (*http.Response, error)) error {
	token, err := d.cfg.Tokens.Token(ctx)
	if err != nil {
		return err
	}
	app, err := d.App(ctx, token)
	if err == nil {
		var response *http.Response
		response, err = call(app.URL, http.Header{"Authorization": {"Bearer " + token}})
		switch {
		case response != nil:
			err = d.refused(response.StatusCode)
		case err != nil:
			err = fmt.Errorf("the front proxy of %s: %w", d.Name(), unwrapURL(err))
		}
	}
	if err != nil {
		d.forget(err)
	}
	return err
}

// App is where the broker app is. The workspace is asked once, and again after a failure.
func (d *Door) App(ctx context.Context, token string) (App, error) {
	d.mu.Lock()
	app := d.app
	d.mu.Unlock()
	if app != nil {
		return *app, nil
	}
	found, err := lookUp(ctx, d.client, d.workspace, d.name, token)
	if err != nil {
		return App{}, err
	}
	if err := found.several(); err != nil {
		d.cfg.Log.Error(err.Error(), "app", d.name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.app = &found
	return found, nil
}

// forget makes the next attempt ask again for what may have been wrong.
func (d *Door) forget(err error) {
	if _, ok := errors.AsType[*refusal](err); ok {
		d.cfg.Tokens.Forget()
	}
	if d.name == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.app = nil
}

// refused explains an answer of the front proxy that is not the one of a broker app.
func (d *Door) refused(status int) error {
	switch status {
	case http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusUnauthorized:
		return &refusal{fmt.Sprintf("the front proxy of %s sent this process to the sign-in page (%d): it does not accept its token; give its service principal CAN USE on the broker app", d.Name(), status)}
	case http.StatusForbidden:
		return &refusal{fmt.Sprintf("the front proxy of %s refuses this process (403): give its service principal CAN USE on the broker app", d.Name())}
	case http.StatusNotFound, http.StatusOK, http.StatusUpgradeRequired, http.StatusMethodNotAllowed:
		return fmt.Errorf("what answers at %s is no broker app (%d): it must run obo-broker", d.Name(), status)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fmt.Errorf("the broker app %s does not run (%d): start it, and look at its log", d.Name(), status)
	}
	return fmt.Errorf("the front proxy of %s answered %d", d.Name(), status)
}

// DialTimeout is for those who dial without a context of their own, as nats.go does.
const DialTimeout = 5 * time.Second

// Dialer is the door for nats.go, with SkipTLSHandshake: what is dialed is TLS already, and leads nowhere else.
type Dialer struct{ Door *Door }

// Dial ignores the address.
func (d Dialer) Dial(string, string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), DialTimeout)
	defer cancel()
	return d.Door.Dial(ctx)
}

// SkipTLSHandshake tells nats.go that the connection is secured.
func (Dialer) SkipTLSHandshake() bool { return true }
