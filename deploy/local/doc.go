// Package local runs a whole relay in one process on this machine, with keys that are thrown away: files as obo init makes
// them, a broker, publishers and workers. The demo and obo dev stand on it.
package local
