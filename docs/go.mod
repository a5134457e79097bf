module github.com/seed-5b1d5243/pop3/docs

go 1.25.0

require github.com/yuin/goldmark v1.8.7
