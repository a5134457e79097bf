// Command release checks that the modules of this tree can be installed, and releases them.
//
//	go run ./internal/release check             check go.mod files and go.work, without a network
//	go run ./internal/release tidy [DIR...]     go mod tidy, in these modules or in all
//	go run ./internal/release get DIR PKG...    go get, in one module
//	go run ./internal/release workspace FILE    write a go.work of the modules that this Go version can build
//	go run ./internal/release verify            install everything from a module proxy made of this tree
//	go run ./internal/release prepare VERSION   let the modules require this version of each other
//	go run ./internal/release tag VERSION       tag all modules, if nothing is missing
//
// The modules require versions of each other that may not be released yet. Tidy, get and verify therefore pack the
// tree, uncommitted changes included, into a module proxy in a temporary directory. That proxy comes before those
// of go env GOPROXY, and everything is downloaded to a temporary module cache, so that no unreleased version
// remains in the user's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: release check | tidy [DIR...] | get DIR PKG... | workspace FILE | verify | prepare VERSION | tag VERSION")

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	tree, err := OpenTree(wd)
	if err != nil {
		return err
	}
	verb, args := args[0], args[1:]
	switch {
	case verb == "check" && len(args) == 0:
		return tree.Check()
	case verb == "tidy":
		return tree.Tidy(ctx, args)
	case verb == "get" && len(args) >= 2:
		return tree.Get(ctx, args[0], args[1:])
	case verb == "workspace" && len(args) == 1:
		file, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		return tree.WriteWorkspace(ctx, file)
	case verb == "verify" && len(args) == 0:
		return tree.Verify(ctx)
	case verb == "prepare" && len(args) == 1:
		return tree.Prepare(args[0])
	case verb == "tag" && len(args) == 1:
		return tree.Tag(ctx, args[0])
	}
	return errUsage
}
