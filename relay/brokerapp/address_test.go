package brokerapp

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"app:obo-broker": "obo-broker ", "APP:x": "x ", " app:x ": "x ",
		"https://h.example": " https://h.example/api/nats", "https://h.example/": " https://h.example/api/nats",
		"https://h.example/other": " https://h.example/other", "http://127.0.0.1:80": " http://127.0.0.1:80/api/nats",
	} {
		name, at, err := parseAddress(address)
		got := name + " "
		if at != nil {
			got += at.String()
		}
		if err != nil || got != want || !Is(address) || CheckAddress(address) != nil {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
	for address, want := range map[string]string{
		"app:": "is not the name of an app", "app:A": "is not the name", "app:a/b": "is not the name", "app:-a": "is not the name",
		"https://": "not a URL", "https://u:hunter2@h": "leave it out", "https://h?hunter2": "more than host and path", "http://h": "write https",
	} {
		if err := CheckAddress(address); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, other := range []string{"nats://h", "tls://h", "wss://h", "h:4222", "apple", ""} {
		if Is(other) {
			t.Errorf("%q is taken for a broker app", other)
		}
	}
}

func TestParseHost(t *testing.T) {
	for host, want := range map[string]string{
		"adb-1.2.azuredatabricks.net": "https://adb-1.2.azuredatabricks.net", "https://h/": "https://h", "http://127.0.0.1:8080": "http://127.0.0.1:8080",
	} {
		if u, err := ParseHost(host); err != nil || u.String() != want {
			t.Errorf("%s: %v %v", host, u, err)
		}
	}
	for _, host := range []string{"", "http://h", "ftp://h", "https://u@h"} {
		if u, err := ParseHost(host); err == nil {
			t.Errorf("%q: %v", host, u)
		}
	}
}

func TestPrincipalCannotBePrinted(t *testing.T) {
	p := Principal{Workspace: "h", ClientID: "client", Secret: secret}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		for _, v := range []any{p, &p, []Principal{p}, struct{ P Principal }{p}} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, secret) {
				t.Errorf("%s prints %s", verb, text)
			}
		}
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "value", p, "pointer", &p)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "value", p, "pointer", &p)
	if strings.Contains(log.String(), secret) {
		t.Errorf("slog prints %s", &log)
	}
	err := Principal{}.Validate()
	for _, want := range []string{"the workspace's address is missing", "DATABRICKS_CLIENT_SECRET", "obo tunnel"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
