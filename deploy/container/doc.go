// Package container holds the Containerfile. Its tests check what can be checked without building the image.
package container
