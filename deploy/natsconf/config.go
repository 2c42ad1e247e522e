package natsconf

// Config is everything a relay's nats-server.conf depends on.
type Config struct {
	// Listen is the host:port for NATS clients; port -1 takes a free one. Defaults to "127.0.0.1:4222".
	Listen string
	// WebSocket adds a listener for NATS over WebSocket. Defaults to none.
	WebSocket *WebSocket
	// TLS secures the client listener, handshake first. Defaults to none, which suits loopback and a network that
	// is encrypted below; the relay's own sealing does not depend on it.
	TLS *TLS
	// SubjectPrefix is put before "obo.v1", so that several environments share a server: tokens of [A-Za-z0-9_-]
	// with dots between, at most 64 characters, not starting with "_". Defaults to none.
	SubjectPrefix string
	// Apps may call services.
	Apps []App
	// Services answer apps. An app and a service must name each other, so that neither opens the way alone.
	Services []Service
	// InspectorNKeys are the public user nkeys that may look at OBO and change nothing. Defaults to none.
	InspectorNKeys []string
	// SystemNKeys are the public user nkeys that may look at the server through SYS. Defaults to none.
	SystemNKeys []string
	// AuditorNKeys are the public user nkeys that may make the stream AUDIT and read it. With one, each service may
	// publish its audit records ([AuditSubject]) and StoreDir is required. Defaults to none.
	AuditorNKeys []string
	// MaxConnections bounds clients, connections not yet authenticated included. Defaults to 256.
	MaxConnections int
	// StoreDir switches JetStream on for OBO and is where its files go. Defaults to none: the relay needs no
	// stream, and a broker without one writes no message to disk.
	StoreDir string
}

// WebSocket is a listener for NATS over WebSocket.
type WebSocket struct {
	// Listen is the host:port; port -1 takes a free one.
	Listen string
	// TLS secures the listener. Defaults to none, for a proxy in front that ends TLS.
	TLS *TLS
}

// TLS names the PEM files of a listener.
type TLS struct {
	CertFile string
	KeyFile  string
	// ClientCAFile is the authority of the certificates that clients must show. Defaults to none: keys are enough.
	ClientCAFile string
}

// App is a publisher's side: the program through which users call services.
type App struct {
	// Name is a DNS label: [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?
	Name string
	// NKeys are the public user nkeys; two at once while one replaces the other.
	NKeys []string
	// Calls names the services this app may call; at least one.
	Calls []string
}

// Service is a worker's side.
type Service struct {
	// Name is a DNS label: [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?
	Name string
	// NKeys are the public user nkeys; two at once while one replaces the other.
	NKeys []string
	// Apps names the apps that may call this service.
	Apps []string
}

func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:4222"
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 256
	}
	return c
}
