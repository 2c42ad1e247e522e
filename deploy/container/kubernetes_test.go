package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.yaml.in/yaml/v3"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// A server starts with what the chart makes of the values, as its README describes it (an include line before its own
// settings), and knows the relay's users and nobody else.
func TestChartValues(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("nats-values.yaml")
	relaytest.Must(t, err)
	var values struct {
		Config struct {
			Cluster struct {
				Enabled  bool
				Replicas int
			}
			Merge map[string]string
		}
	}
	relaytest.Must(t, yaml.Unmarshal(text, &values))
	file := values.Config.Merge["00$include"]
	if !values.Config.Cluster.Enabled || values.Config.Cluster.Replicas != 3 || len(values.Config.Merge) != 1 ||
		!strings.Contains(string(text), "configMap.merge.data."+strings.ReplaceAll(file, ".", `\.`)+"=obo/nats-server.conf") {
		t.Fatalf("%+v", values)
	}
	dir := t.TempDir()
	made, err := setup.Init(setup.Config{
		Dir: filepath.Join(dir, "obo"), NATSURL: "nats://nats.relay.svc.cluster.local:4222", Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"},
	})
	relaytest.Must(t, err)
	if made.Config.Listen != "0.0.0.0:4222" {
		t.Errorf("it listens at %s, where no other pod reaches it", made.Config.Listen)
	}
	conf, err := os.ReadFile(made.ServerConf)
	relaytest.Must(t, err)
	relaytest.Must(t, os.WriteFile(filepath.Join(dir, file), conf, 0o600))
	chart := fmt.Sprintf("include %s;\n\"host\": \"127.0.0.1\", \"port\": -1, \"server_name\": \"nats-0\", \"lame_duck_duration\": \"30s\",\n"+
		"\"cluster\": {\"name\": \"nats\", \"listen\": \"127.0.0.1:-1\", \"routes\": []}\n", file)
	relaytest.Must(t, os.WriteFile(filepath.Join(dir, "nats.conf"), []byte(chart), 0o600))
	b, err := broker.New(broker.Config{ConfigFile: filepath.Join(dir, "nats.conf"), DrainTimeout: time.Millisecond})
	relaytest.Must(t, err)
	relaytest.Start(t, b.Run)
	<-b.Ready()
	seed, err := os.ReadFile(made.Side(relay.RoleApp, "ui").NKeyFile)
	relaytest.Must(t, err)
	up := make(chan struct{}, 1)
	nc, err := relay.Connect(relay.ConnectConfig{URL: b.ClientURL(), NKeySeed: strings.TrimSpace(string(seed)), OnUp: func() { up <- struct{}{} }})
	relaytest.Must(t, err)
	defer nc.Close()
	<-up
	if nc.MaxPayload() != 1<<20 || nc.ConnectedServerName() != "nats-0" {
		t.Errorf("max_payload %d, server %s", nc.MaxPayload(), nc.ConnectedServerName())
	}
	if _, err := nats.Connect(b.ClientURL()); err == nil {
		t.Error("somebody without a key came in")
	}
}
