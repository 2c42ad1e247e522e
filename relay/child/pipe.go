package child

import (
	"os"
	"os/signal"
	"syscall"
)

// OutliveReaders keeps a log or output that nobody reads any longer from ending this process: of obo-worker | tee a ^C ends
// tee first, and SIGPIPE would then end the drain. Unlike an ignored signal this is not handed down to children.
func OutliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
