module github.com/seed-5b1d5243/pop3/cmd/pop3

go 1.25.0

require (
	github.com/cenkalti/backoff/v5 v5.0.3
	github.com/coreos/go-systemd/v22 v22.7.0
	github.com/emersion/go-smtp v0.25.1
	github.com/schollz/progressbar/v3 v3.19.1
	github.com/seed-5b1d5243/pop3 v0.1.0
	golang.org/x/term v0.44.0
)

require go.etcd.io/bbolt v1.5.0 // indirect

require (
	github.com/BurntSushi/toml v1.6.0
	github.com/danieljoos/wincred v1.2.3 // indirect
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6
	github.com/git-lfs/go-netrc v0.0.0-20250218165306-ba0029b43d11
	github.com/godbus/dbus/v5 v5.2.2 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7
	github.com/seed-5b1d5243/pop3/fetch/boltstore v0.1.0
	github.com/xdg-go/scram v1.4.0
	github.com/xdg-go/stringprep v1.0.4 // indirect
	github.com/zalando/go-keyring v0.2.8
	golang.org/x/net v0.56.0
	golang.org/x/oauth2 v0.36.0
	golang.org/x/sync v0.21.0
	golang.org/x/sys v0.46.0 // indirect
	golang.org/x/text v0.38.0
)
