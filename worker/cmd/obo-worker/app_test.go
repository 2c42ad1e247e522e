package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// app is a middleware app: app ADDRESS listens there and tells on standard output what it was given and what it hears.
func app() {
	env := os.Environ()
	slices.Sort(env)
	for _, v := range env {
		if strings.HasPrefix(v, "OBO_") || strings.HasPrefix(v, "DATABRICKS_APP_PORT") {
			fmt.Println("env", v)
		}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Println("app was asked")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	go func() { panic(http.Serve(listener, nil)) }()
	for sig := range signals {
		fmt.Println("app got", sig)
		if sig == syscall.SIGTERM {
			os.Exit(6)
		}
	}
}
