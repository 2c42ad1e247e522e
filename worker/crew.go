package worker

// crew runs requests on goroutines that are used again: a new one's stack would have to grow several times on its way
// through admission, handler and sealing, which is a twentieth of a small request's cost.
type crew struct {
	jobs chan func()
	idle chan struct{} // one for each goroutine that waits for work
	done chan struct{}
}

const maxIdleCrew = 64

func newCrew() *crew {
	return &crew{jobs: make(chan func()), idle: make(chan struct{}, maxIdleCrew), done: make(chan struct{})}
}

// run starts f at once, on a goroutine that waits or on a new one.
func (c *crew) run(f func()) {
	select {
	case c.jobs <- f:
	default:
		go c.work(f)
	}
}

func (c *crew) work(f func()) {
	for {
		f()
		select {
		case c.idle <- struct{}{}:
		default:
			return
		}
		select {
		case f = <-c.jobs:
			<-c.idle
		case <-c.done:
			return
		}
	}
}

// dismiss ends the goroutines that wait. It is called once.
func (c *crew) dismiss() { close(c.done) }
