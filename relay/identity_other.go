//go:build !unix

package relay

// modeless: Windows has no mode bits that say who may read; its ACLs are the operator's to set.
const modeless = true
