package brokerapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// App is what the workspace's Apps API says about the broker app.
type App struct {
	URL          *url.URL
	Instances    int // that run now; 0 if the workspace does not say
	MaxInstances int // that may run; 0 if the workspace does not say
}

// several explains an app of which more than one instance runs or may run.
func (a App) several() error {
	if a.Instances < 2 && a.MaxInstances < 2 {
		return nil
	}
	return fmt.Errorf("the broker app runs as %d instances and may run as %d: each would be a NATS server of its own that does not know the others, and requests would not arrive; set compute_min_instances and compute_max_instances to 1", a.Instances, a.MaxInstances)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// lookUp asks the workspace for an app. The service principal needs CAN USE on it.
func lookUp(ctx context.Context, client *http.Client, workspace *url.URL, name, token string) (App, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, workspace.JoinPath("/api/2.0/apps", name).String(), nil)
	if err != nil {
		return App{}, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return App{}, fmt.Errorf("the workspace cannot be asked where app %s is: %w", name, unwrapURL(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return App{}, fmt.Errorf("the workspace cannot be asked where app %s is: %w", name, err)
	}
	switch response.StatusCode {
	case http.StatusOK:
		return readApp(name, body)
	case http.StatusUnauthorized:
		return App{}, &refusal{fmt.Sprintf("the workspace does not accept the token with which it was asked where app %s is (401)", name)}
	case http.StatusForbidden, http.StatusNotFound:
		var fault struct {
			Code string `json:"error_code"`
		}
		_ = json.Unmarshal(body, &fault) // the status says enough
		return App{}, fmt.Errorf("the workspace does not say where app %s is (%s): deploy it, and give this app's service principal CAN USE on it, or give its URL instead of its name", name, code(response.StatusCode, fault.Code))
	}
	return App{}, fmt.Errorf("the workspace answered %d when it was asked where app %s is", response.StatusCode, name)
}

func readApp(name string, body []byte) (App, error) {
	var answer struct {
		URL           string `json:"url"`
		MaxInstances  int    `json:"compute_max_instances"`
		ComputeStatus struct {
			Instances int `json:"active_instances"`
		} `json:"compute_status"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return App{}, fmt.Errorf("the workspace's answer about app %s is not the JSON of its Apps API", name)
	}
	if answer.URL == "" {
		return App{}, fmt.Errorf("app %s has no URL yet: start it", name)
	}
	at, err := parseURL(answer.URL)
	if err != nil {
		return App{}, fmt.Errorf("the workspace's answer about app %s: %w", name, err)
	}
	return App{
		URL:       &url.URL{Scheme: at.Scheme, Host: at.Host, Path: Path},
		Instances: answer.ComputeStatus.Instances, MaxInstances: answer.MaxInstances,
	}, nil
}

// refusal is an answer to a token that is not accepted: the next attempt takes another.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// unwrapURL drops what the libraries put before the fault of the network: method, URL, their own names.
func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// code is a status with the server's word for the fault, if that is fit for a log.
func code(status int, word string) string {
	if word == "" || len(word) > 64 || strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return strconv.Itoa(status)
	}
	return strconv.Itoa(status) + " " + word
}
