// Package child runs an app under one of the relay's commands: obo-worker [flags] -- uvicorn main:app.
//
// The command and its child share one life. Which of the two uses the other decides the order: what is used starts first
// and stops last.
//
//	RunServer   the parent calls the child (obo-worker): the child starts, answers, and only then the parent serves;
//	            at the end the parent drains, and only then the child is told to stop
//	RunClient   the child calls the parent (obo-publisher, obo-broker): the other way round
//
// # Environment
//
// OBO_ is the relay's prefix. A child gets its parent's environment without any variable of that prefix, except
// OBO_URL_<SERVICE>, which is made for it (and NO_PROXY, where a proxy would get those calls: NoProxy). Only if the child is
// itself one of the relay's commands (obo-broker -- obo-worker -- uvicorn …) does it get them all, since they are its
// settings: it will take them from its own child. A child is one of the relay's commands if a word of its command line before
// the first -- is obo-broker, obo-publisher or obo-worker, with or without a folder before it; so wrappers such as
// "uv run obo-worker" may stand in between.
//
// What a process was started with stays readable for its user in /proc/<pid>/environ, and its memory too. Hide closes that on
// Linux; the commands call it first of all. A key file that the parent can read, the child can read too: on a machine
// without separate users, secrets belong in the environment.
//
// # Signals
//
// SIGTERM and SIGINT stop both, in the order above, with the signal that came. A child that still runs after Config.StopTime
// is killed with its process group; after a second signal at once. SIGHUP is passed on, unless the parent has a use of its
// own for it. The child is the leader of a process group of its own, so that a terminal's ^C reaches it through its parent
// only. On Linux it is killed when its parent is, and a parent that orphans are given to (process 1 of a container) buries
// them.
//
// # Exit status
//
// That of the child, 128+n if signal n ended it; 127 and 126 if its program was not found or could not be started; 1 if the
// parent had a fault of its own, such as a child that was not ready in time; 128+n if signal n was the second.
package child
