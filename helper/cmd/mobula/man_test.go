package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const manPath = "../../../docs/mobula.8"

// TestManual holds that the manual page in the repository is the one that the program
// prints, has all commands and flags, and is one that man(1) understands.
func TestManual(t *testing.T) {
	code, page, stderr := mobula("", "man")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	if *update {
		if err := os.WriteFile(manPath, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile(manPath); err != nil || string(kept) != page {
		t.Errorf("%s is not what 'mobula man' prints (%v); run with -update", manPath, err)
	}
	for _, check := range [][]string{
		{"mandoc", "-T", "lint", "-W", "warning", manPath},
		{"groff", "-ww", "-z", "-man", "-T", "utf8", manPath},
	} {
		if _, err := exec.LookPath(check[0]); err != nil {
			t.Skip("installed by lab/deps.sh test: ", err)
		}
		out, err := exec.Command(check[0], check[1:]...).CombinedOutput()
		for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			if line != "" && !strings.Contains(line, "missing date") { // the page has the program's
				t.Errorf("%v: %v: %s", check, err, line)
			}
		}
	}
	read := exec.Command("mandoc", "-T", "utf8", "-O", "width=200")
	read.Stdin = strings.NewReader(page)
	shown, err := read.Output()
	if err != nil {
		t.Fatal(err)
	}
	shown = regexp.MustCompile(`.\x08`).ReplaceAll(shown, nil) // bold is each letter twice
	everyCommand(func(path []string, c command) {
		if c.hidden {
			return
		}
		_, help, _ := mobula("", append([]string{"help"}, path...)...)
		usage, rest, _ := strings.Cut(help, "\n")
		if want := strings.TrimPrefix(usage, "usage: "); !bytes.Contains(shown, []byte(want)) {
			t.Errorf("%s is missing in\n%s", want, shown)
		}
		for _, word := range strings.Fields(rest) {
			if strings.HasPrefix(word, "--") && word != "--help" && !bytes.Contains(shown, []byte(word)) {
				t.Errorf("%v: %s is missing", path, word)
			}
		}
	})
}
