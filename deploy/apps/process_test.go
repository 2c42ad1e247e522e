//go:build unix

package apps

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is an app that runs.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// grace is what the platform gives an app between SIGTERM and SIGKILL.
const grace = 15 * time.Second

// start runs an app's command in the environment that the platform gives it, until stop or the end of the test, and waits
// until it answers. Its output goes to a file.
func (s *stage) start(name string) error {
	yaml := readApp(s.t, sources[name])
	words := make([]string, len(yaml.Command))
	for i, word := range yaml.Command {
		words[i] = strings.ReplaceAll(word, "$DATABRICKS_APP_PORT", s.ports[name])
	}
	log, err := os.OpenFile(s.path(name, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.program(name, words[0]), words[1:]...)
	cmd.Dir = s.path(name, "source")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the app is killed as a whole
	if cmd.Env, err = s.environment(name); err != nil {
		return err
	}
	for _, v := range yaml.Env {
		value := v.Value
		if v.ValueFrom != "" {
			value = map[string]string{"obo-kit": s.kits[name], "sql-warehouse": "warehouse-1"}[v.ValueFrom]
		}
		cmd.Env = append(cmd.Env, v.Name+"="+value)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	s.running[name] = p
	return s.await(name)
}

// environment is what the platform gives an app, beside what its app.yaml says.
func (s *stage) environment(name string) ([]string, error) {
	env, err := s.workspace.Env(name)
	return append(env,
		"PATH="+s.path(name, "venv", "bin")+":/usr/bin:/bin", "HOME="+s.path(name, "home"), "PYTHONUNBUFFERED=1",
		"DATABRICKS_APP_PORT="+s.ports[name],
		// What it sets for Streamlit.
		"STREAMLIT_SERVER_ADDRESS=0.0.0.0", "STREAMLIT_SERVER_PORT="+s.ports[name], "STREAMLIT_SERVER_HEADLESS=true",
		"STREAMLIT_SERVER_ENABLE_CORS=false", "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION=false",
		"STREAMLIT_BROWSER_SERVER_ADDRESS=127.0.0.1", // else it asks the Internet for its address
	), err
}

// stop ends an app with a signal, and waits until it has ended.
func (s *stage) stop(name string, signal syscall.Signal) error {
	p := s.running[name]
	if p == nil {
		return fmt.Errorf("%s does not run", name)
	}
	delete(s.running, name)
	begun := time.Now()
	pid := p.cmd.Process.Pid
	if signal == syscall.SIGKILL {
		pid = -pid
	}
	if err := syscall.Kill(pid, signal); err != nil {
		return fmt.Errorf("%s has ended before: %v", name, p.cmd.ProcessState)
	}
	select {
	case <-p.ended:
		s.t.Logf("%s: %v, %v after %v", name, p.cmd.ProcessState, time.Since(begun).Round(time.Millisecond), signal)
		return nil
	case <-time.After(grace):
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		<-p.ended
		return fmt.Errorf("%s has not ended in the %v that the platform gives it", name, grace)
	}
}

// await returns when the app answers.
func (s *stage) await(name string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		if resp, err := http.Get("http://127.0.0.1:" + s.ports[name] + "/"); err == nil {
			return resp.Body.Close()
		}
		select {
		case <-tick.C:
		case <-s.running[name].ended:
			return fmt.Errorf("%s has ended: %v", name, s.running[name].cmd.ProcessState)
		case <-deadline:
			return fmt.Errorf("%s does not answer", name)
		}
	}
}

// showLogs prints the end of what each app has said.
func (s *stage) showLogs() {
	for name := range sources {
		text, err := os.ReadFile(s.path(name, "log"))
		lines := strings.SplitAfter(string(text), "\n")
		fmt.Printf("-- %s: the end of %s (%v)\n%s", name, s.path(name, "log"), err, strings.Join(lines[max(0, len(lines)-40):], ""))
	}
}
