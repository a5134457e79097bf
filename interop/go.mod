module github.com/seed-5b1d5243/pop3/interop

go 1.25.0

require (
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6
	github.com/google/go-cmp v0.7.0
	github.com/seed-5b1d5243/pop3 v0.1.0
	github.com/xdg-go/scram v1.4.0
)

require (
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
)

require (
	github.com/seed-5b1d5243/pop3/fetch/boltstore v0.1.0
	github.com/xdg-go/stringprep v1.0.4 // indirect
	golang.org/x/sync v0.20.0 // indirect
	golang.org/x/text v0.3.8 // indirect
)
