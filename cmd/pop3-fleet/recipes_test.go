package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// checkFlags reports whether the command takes the arguments: -h after them ends it before it does anything.
func checkFlags(t *testing.T, args []string) {
	t.Helper()
	operands := 0
	for operands < len(args)-1 && !strings.HasPrefix(args[len(args)-1-operands], "-") && !strings.HasPrefix(args[len(args)-2-operands], "-") {
		operands++
	}
	flags := append(append([]string{}, args[:len(args)-operands]...), "-h")
	if _, stderr, status := run(t, flags...); status != 0 {
		t.Errorf("%q: %s", args, stderr)
	}
}

// TestUnits checks the commands of the systemd units, and the units if systemd is there.
func TestUnits(t *testing.T) {
	t.Parallel()
	units := files(t, "recipes/*.service")
	if len(units) != 3 {
		t.Fatalf("%d units, want 3", len(units))
	}
	dir := t.TempDir()
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		lines := bufio.NewScanner(bytes.NewReader(text))
		for lines.Scan() {
			command, ok := strings.CutPrefix(lines.Text(), "ExecStart=/usr/local/bin/pop3-fleet ")
			if !ok {
				continue
			}
			found = true
			checkFlags(t, strings.Fields(command))
		}
		if !found {
			t.Errorf("%s runs nothing", unit)
		}
		// The program and its user exist nowhere but on the machine of a fleet.
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/pop3-fleet"), []byte("/bin/true"))
		text = bytes.ReplaceAll(text, []byte("User=pop3-fleet"), []byte("User=root"))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(unit)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("systemd-analyze is not there: the flags were checked only")
	}
	cmd := exec.Command(analyze, append([]string{"verify", "--man=no"}, files(t, filepath.Join(dir, "*.service"))...)...)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte(dir)) {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

// A manifest is the part of a Kubernetes object that the test reads.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		ServiceName          string `yaml:"serviceName"`
		CompletionMode       string `yaml:"completionMode"`
		Completions          int
		Selector             any
		Template             struct{ Spec podSpec }
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
	}
}

type podSpec struct {
	Containers []struct {
		Command, Args []string
		VolumeMounts  []struct{ Name string } `yaml:"volumeMounts"`
	}
	Volumes []struct{ Name string }
}

func manifests(t *testing.T, file string) (list []manifest) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	for {
		var m manifest
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		list = append(list, m)
	}
}

// TestManifests checks that the volumes of the Kubernetes recipes exist, and that the command has their flags.
func TestManifests(t *testing.T) {
	t.Parallel()
	commands := 0
	for _, file := range files(t, "recipes/*.yaml") {
		for _, m := range manifests(t, file) {
			if m.APIVersion == "" || m.Kind == "" || m.Metadata.Name == "" {
				t.Errorf("%s: an object without a version, a kind, or a name", file)
			}
			volumes := make(map[string]bool)
			for _, v := range m.Spec.Template.Spec.Volumes {
				volumes[v.Name] = true
			}
			for _, v := range m.Spec.VolumeClaimTemplates {
				volumes[v.Metadata.Name] = true
			}
			for _, c := range m.Spec.Template.Spec.Containers {
				commands++
				for _, v := range c.VolumeMounts {
					if !volumes[v.Name] {
						t.Errorf("%s: %s %s mounts the volume %s, which does not exist", file, m.Kind, m.Metadata.Name, v.Name)
					}
				}
				if len(c.Args) > 0 {
					checkFlags(t, c.Args)
				}
			}
		}
	}
	if commands != 3 {
		t.Errorf("%d containers, want 3", commands)
	}
}

// TestMigrationScript runs the script of the Indexed Job for each index, with commands that record their input.
func TestMigrationScript(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	var script string
	for _, m := range manifests(t, "recipes/kubernetes-migration.yaml") {
		if m.Kind == "Job" {
			if m.Spec.CompletionMode != "Indexed" || m.Spec.Completions != 10 {
				t.Errorf("completion mode %q, %d completions", m.Spec.CompletionMode, m.Spec.Completions)
			}
			script = m.Spec.Template.Spec.Containers[0].Command[2]
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"tmp", "list", "secrets", "mail", "bin"} {
		script = strings.ReplaceAll(script, "/"+name+"/", dir+"/"+name+"/")
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var list strings.Builder
	for i := range 25 {
		name := "box" + string(rune('a'+i))
		list.WriteString("pops://" + name + "@pop.example.org " + name + "\n")
		if err := os.WriteFile(filepath.Join(dir, "secrets", name), []byte("secret of "+name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fake := "#!/bin/sh\ncat >/dev/null\necho \"$POP3_PASSWORD $*\" >>" + dir + "/ran\ncase \"$*\" in *boxc*) exit 4;; esac\n"
	for path, text := range map[string]string{"list/mailboxes": list.String(), "bin/pop3": fake} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	failed := 0
	for i := range 10 {
		cmd := exec.Command(shell, "-euc", script)
		cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "JOB_COMPLETION_INDEX="+string(rune('0'+i)))
		if err := cmd.Run(); err != nil {
			failed++
		}
	}
	ran, err := os.ReadFile(filepath.Join(dir, "ran"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(ran, []byte("\n")); n != 25 {
		t.Errorf("%d mailboxes were fetched, want 25", n)
	}
	want := "secret of boxa fetch -q -delete -state " + dir + "/mail/state/boxa pops://boxa@pop.example.org " + dir + "/mail/boxa\n"
	if !strings.Contains(string(ran), want) {
		t.Errorf("the commands lack %s:\n%s", want, ran)
	}
	if failed != 1 {
		t.Errorf("%d pods failed, want 1", failed)
	}
}
