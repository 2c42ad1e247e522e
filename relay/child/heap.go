package child

import (
	"math"
	"os"
	"runtime/debug"
)

// heapSlack is how much is allocated at least before garbage is collected.
const heapSlack = 32 << 20

// ballast is never touched, so it takes address space and no memory.
var ballast []byte

// Slack has Go collect garbage after each 32 MB at the earliest. A relay holds so little that it would otherwise be collected
// every few dozen requests, a tenth of the processor time under load; and a share of what it holds (GOGC) would be the wrong
// measure, for then a worker that holds much would double it. The garbage collector counts the ballast as held. Whoever
// sets GOGC or GOMEMLIMIT has decided otherwise.
func Slack() {
	if os.Getenv("GOGC") == "" && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		ballast = make([]byte, heapSlack)
	}
}
