package bench

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// The gateway is the floor: the thinnest way over NATS that one could write, with nats.go's micro and nothing of the relay. It
// buffers whole bodies of at most a message, seals nothing, checks nothing, knows of no failure but "something broke".

// gatewayBack is its half beside the backend.
func gatewayBack(nc *nats.Conn, target string) error {
	service, err := micro.AddService(nc, micro.Config{Name: "gateway", Version: "0.0.1"})
	if err != nil {
		return err
	}
	out := &http.Client{Transport: newTransport()}
	return service.AddEndpoint("http", micro.HandlerFunc(func(r micro.Request) { go forward(out, target, r) }))
}

// gatewayFront is its half beside the client.
func gatewayFront(nc *nats.Conn) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		m := &nats.Msg{Subject: "http", Data: body, Header: nats.Header(r.Header.Clone())}
		m.Header["Method"], m.Header["Target"] = []string{r.Method}, []string{r.URL.RequestURI()}
		answer, err := nc.RequestMsg(m, 30*time.Second)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		status, err := strconv.Atoi(answer.Header.Get("Status-Code"))
		if err != nil {
			status = http.StatusBadGateway
		}
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = w.Write(answer.Data)
	})
}

// forward hands one message to the backend and answers with what it said.
func forward(out *http.Client, target string, r micro.Request) {
	h := http.Header(r.Headers())
	resp, body, err := fetch(out, h.Get("Method"), target+h.Get("Target"), h, r.Data())
	if err != nil {
		_ = r.Error("502", err.Error(), nil)
		return
	}
	resp.Header.Set("Status-Code", strconv.Itoa(resp.StatusCode))
	_ = r.Respond(body, micro.WithHeaders(micro.Headers(resp.Header)))
}

// fetch sends one request and reads the whole answer.
func fetch(out *http.Client, method, url string, h http.Header, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = h
	resp, err := out.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}
