module github.com/seed-5b1d5243/pop3/internal/release

go 1.25.0

require golang.org/x/mod v0.38.0
