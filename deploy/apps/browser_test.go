//go:build unix

package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// browsers are the names that Chromium has, here and there.
var browsers = []string{
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
	"/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
}

// findBrowser returns the program of a Chromium. Where there is none, it installs Debian's, if it may.
func findBrowser(ctx context.Context) (string, error) {
	if path := os.Getenv("OBO_BROWSER"); path != "" {
		return exec.LookPath(path)
	}
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", fmt.Errorf("found no Chromium: install it (on Debian: apt-get install chromium), or name one in OBO_BROWSER; looked for %q", browsers)
	}
	fmt.Println("installing chromium with apt-get")
	err := errors.Join(aptGet(ctx, "update"), aptGet(ctx, "install", "--yes", "--no-install-recommends", "chromium"))
	if err != nil {
		return "", err
	}
	return exec.LookPath("chromium")
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"--quiet", "--quiet"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
	}
	return nil
}
