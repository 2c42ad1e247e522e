package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
)

func main() {
	parallel := flag.Int("p", runtime.NumCPU(), "how many at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Arg(0), *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run takes out, one at a time, what the pattern names, from the root of the project.
func run(ctx context.Context, pattern string, parallel int) error {
	const root = "."
	match, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	rows, err := readList(root)
	if err != nil {
		return err
	}
	if err := check(root, rows); err != nil {
		return err
	}
	var chosen []mutant
	for _, r := range rows {
		for _, m := range r.Mutants {
			if match.MatchString(m.against) || match.MatchString(m.Name) || match.MatchString(m.Test) {
				chosen = append(chosen, m)
			}
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("nothing in %s matches %q", listFile, pattern)
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	caught, err := runAll(ctx, root, dir, chosen, max(parallel, 1))
	fmt.Printf("%d of %d caught\n", len(caught), len(chosen))
	if werr := writeCaught(root, rows, chosen, caught); err == nil {
		err = werr
	}
	return err
}
