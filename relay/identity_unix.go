//go:build unix

package relay

// modeless: file modes mean something here.
const modeless = false
