package worker

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// patient is a connection to the app. An app that refuses an upload by its head, and closes, resets the connection under the rest,
// and net/http's client, when it cannot write, drops an answer that it has not read yet. So it hears of that when nothing is left
// to read, or it has closed the connection: it reads all the time.
type patient struct {
	net.Conn
	end  func() // closes over
	over <-chan struct{}
}

func newPatient(conn net.Conn) *patient {
	over := make(chan struct{})
	return &patient{conn, sync.OnceFunc(func() { close(over) }), over}
}

func (c *patient) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *patient) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		<-c.over
	}
	return n, err
}

func (c *patient) Close() error {
	c.end()
	return c.Conn.Close()
}
