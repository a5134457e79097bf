module github.com/seed-5b1d5243/pop3

go 1.25.0

require (
	github.com/google/go-cmp v0.7.0
	golang.org/x/sync v0.20.0
)
