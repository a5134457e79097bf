module github.com/seed-5b1d5243/pop3/examples

go 1.25.0

require (
	github.com/emersion/go-message v0.18.2
	github.com/emersion/go-smtp v0.25.1
	github.com/seed-5b1d5243/pop3 v0.1.0
	github.com/seed-5b1d5243/pop3/fetch/boltstore v0.1.0
	golang.org/x/oauth2 v0.36.0
	golang.org/x/sync v0.20.0
)

require (
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
)
