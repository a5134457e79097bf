module github.com/seed-5b1d5243/pop3/faults

go 1.25.0

require (
	github.com/seed-5b1d5243/pop3 v0.1.0
	github.com/seed-5b1d5243/pop3/fetch/boltstore v0.1.0
	pgregory.net/rapid v1.2.0
)

require (
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sync v0.20.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
)
