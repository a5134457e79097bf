// Package docs tests the documentation of the tree: its Go blocks compile, its shell blocks run, its links lead
// somewhere.
package docs
