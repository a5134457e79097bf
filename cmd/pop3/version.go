package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

func defineVersion(a *app, flags *flag.FlagSet) func(context.Context) error {
	return func(context.Context) error {
		info, ok := debug.ReadBuildInfo()
		if !ok {
			info = &debug.BuildInfo{}
		}
		fmt.Fprint(a.stdout, versionText(info))
		return nil
	}
}

// versionText returns the version of the command, of the library, and of Go.
func versionText(info *debug.BuildInfo) string {
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	if revision != "" {
		version += " (" + revision[:min(len(revision), 12)] + modified + ")"
	}
	text := "pop3 " + version + "\n"
	for _, m := range info.Deps {
		if m.Path == libraryPath || m.Path == libraryPath+"/fetch/boltstore" {
			text += m.Path + " " + m.Version + "\n"
		}
	}
	return text + fmt.Sprintf("%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

const libraryPath = "github.com/seed-5b1d5243/pop3"
