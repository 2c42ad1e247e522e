//go:build unix

package doctor

import (
	"fmt"
	"os"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// A kit that comes from a pipe, as of a password manager, can be read once.
func TestKitFromAPipe(t *testing.T) {
	made, err := setup.Init(setup.Config{Dir: t.TempDir(), Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"}})
	relaytest.Must(t, err)
	kit, err := os.ReadFile(made.Side(relay.RoleService, "middleware").KitFile)
	relaytest.Must(t, err)
	read, write, err := os.Pipe()
	relaytest.Must(t, err)
	defer read.Close()
	go func() { _, _ = write.Write(kit); _ = write.Close() }()
	c := Command{Path: "/", Settings: relay.Settings{KitFile: fmt.Sprintf("/dev/fd/%d", read.Fd()), Hints: relay.HintsFull}}
	cfg, err := c.config(t.Context(), Terminal{})
	if err != nil || cfg.SettingsFault != nil || cfg.Role != relay.RoleService || cfg.Name != "middleware" {
		t.Errorf("%v, %v, %s %s", err, cfg.SettingsFault, cfg.Role, cfg.Name)
	}
}
