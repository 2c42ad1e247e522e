package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fakeDatabricks stands in for the Databricks CLI. With a directory RECORD it keeps what it is called with there, arguments
// and standard input apart, and prints what the real one does.
func fakeDatabricks() {
	if os.Getenv("RECORD") == "" {
		databricksToken()
		return
	}
	os.Exit(answerDatabricks(os.Args[1:]))
}

func answerDatabricks(args []string) int {
	line := strings.Join(args, " ")
	record, err := os.OpenFile(filepath.Join(os.Getenv("RECORD"), "calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer record.Close()
	fmt.Fprintln(record, line)
	words := args
	if i := len(words) - 2; i >= 0 && words[i] == "--profile" {
		words = words[:i]
	}
	switch {
	case len(words) == 3 && strings.HasPrefix(line, "secrets create-scope "):
		scope := filepath.Join(os.Getenv("RECORD"), words[2])
		if err := os.Mkdir(scope, 0o700); err != nil {
			fmt.Fprintf(os.Stderr, "Error: Scope %s already exists!\n", words[2])
			return 1
		}
	case len(words) == 4 && strings.HasPrefix(line, "secrets put-secret "):
		value, err := io.ReadAll(os.Stdin)
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Getenv("RECORD"), words[2], words[3]), value, 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "Error:", err)
			return 1
		}
	case len(words) == 5 && strings.HasPrefix(line, "secrets put-acl "):
	case len(words) == 5 && strings.HasPrefix(line, "apps get ") && words[3] == "--output" && words[4] == "json":
		if !strings.Contains(os.Getenv("APPS"), words[2]) {
			fmt.Fprintf(os.Stderr, "Error: App with name %s does not exist or is deleted.\n", words[2])
			return 1
		}
		_ = json.NewEncoder(os.Stdout).Encode(map[string]string{
			"name": words[2], "service_principal_client_id": "client-of-" + words[2], "url": os.Getenv("APP_URL"),
		})
	case line == "auth token" || strings.HasPrefix(line, "auth token --profile "):
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
			"access_token": os.Getenv("TOKEN"), "token_type": "Bearer", "expiry": time.Now().Add(time.Hour),
		})
	default:
		fmt.Fprintf(os.Stderr, "Error: unknown command %q\n", line)
		return 1
	}
	return 0
}
