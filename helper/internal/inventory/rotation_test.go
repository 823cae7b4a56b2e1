package inventory

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/network"
)

// TestKeysOfARotation: which of a host's keys is used and which is accepted besides, for
// each phase, whatever the host reported and whatever was kept of it.
func TestKeysOfARotation(t *testing.T) {
	const nothing = ""
	for _, c := range []struct {
		name       string
		uses, made int    // what the host reported; 0: no such key
		kept       string // of the deploy before, as shown
		// What comes of it, in each phase.
		otherwise, announce, switched, forget string
	}{
		{"a rotation", 1, 2, "1", "2", "1, also 2", "2, also 1", "2"},
		{"after an interrupted announcement", 1, 3, "1, also 2", "3", "1, also 3", "3, also 1", "3"},
		{"after an interrupted switch, with the new key", 2, 3, "2, also 1", "3", "2, also 3", "3, also 2", "3"},
		{"after an interrupted switch, with the old key", 1, 3, "2, also 1", "3", "1, also 3", "3, also 1", "3"},
		{"new", 0, 2, nothing, "2", "2", "2", "2"},
		{"known, and its key is lost", 0, 2, "1", "2", "2", "2", "2"},
		{"known, and the files are lost", 1, 2, nothing, "2", "1, also 2", "2, also 1", "2"},
		{"it made no key", 1, 0, "1", "1", "1", "1", "1"},
		{"it made no key, and knows that of before", 1, 0, "1, also 2", "1", "1", "1", "1"},
		{"it has the new key of a rotation that was interrupted", 2, 0, "2, also 1", "2", "2", "2", "2"},
		{"it has the old one", 1, 0, "2, also 1", "1", "1", "1", "1"},
		{"asked for a key, it named the one that it has", 1, 1, "1", "1", "1", "1", "1"},
		{"down, or left out by --limit", 0, 0, "1", "1", "1", "1", "1"},
		{"down after an interrupted announcement", 0, 0, "1, also 2", "1, also 2", "1, also 2", "1, also 2", "1, also 2"},
		{"down after an interrupted switch", 0, 0, "2, also 1", "2, also 1", "2, also 1", "2, also 1", "2, also 1"},
		{"down and not known", 0, 0, nothing, nothing, nothing, nothing, nothing},
	} {
		said := Reported{UnderlayMTU: 1400, UplinkMode: "shared", NetworkMTU: 1390}
		said.PublicKey, said.MadeKey = keyOrNone(c.uses), keyOrNone(c.made)
		kept := HostKey{HostID: 7, UnderlayMTU: 1500}
		switch c.kept {
		case "1":
			kept.PublicKey = testKey(1)
		case "1, also 2":
			kept.PublicKey, kept.AlsoKey = testKey(1), testKey(2)
		case "2, also 1":
			kept.PublicKey, kept.AlsoKey = testKey(2), testKey(1)
		}
		for phase, want := range map[Phase]string{NoRotation: c.otherwise, Announce: c.announce, Switch: c.switched, Forget: c.forget} {
			got, replaced := phase.next(kept, said)
			reports := c.uses+c.made != 0
			if shown := keysOf(got.PublicKey, got.AlsoKey); shown != want || replaced != reports {
				t.Errorf("%s, phase %q: found %q, replaced: %v, wanted %q", c.name, phase, shown, replaced, want)
			}
			rest := HostKey{UnderlayMTU: 1400, UplinkMode: "shared"}
			if !reports {
				rest = HostKey{HostID: 7, UnderlayMTU: 1500}
			}
			if got.PublicKey, got.AlsoKey = (network.Key{}), (network.Key{}); got != rest {
				t.Errorf("%s, phase %q: found %+v, wanted %+v besides the keys", c.name, phase, got, rest)
			}
		}
	}
}

func keyOrNone(n int) network.Key {
	if n == 0 {
		return network.Key{}
	}
	return testKey(n)
}

// keysOf shows keys as the tables do.
func keysOf(public, also network.Key) string {
	number := func(k network.Key) string {
		for n := range 100 {
			if k == testKey(n) {
				return fmt.Sprint(n)
			}
		}
		return "?"
	}
	switch {
	case public.IsZero():
		return ""
	case also.IsZero():
		return number(public)
	}
	return number(public) + ", also " + number(also)
}

// TestRotationsThatAreInterrupted goes through runs as they follow each other, with what the
// files keep between them: whatever a host uses, its peers accept it.
func TestRotationsThatAreInterrupted(t *testing.T) {
	const rotated = "announce 1+11 2+12 3+13: 1, also 11; 2, also 12; 3, also 13 | switch 1+11 2+12 3+13: 11, also 1; 12, also 2; 13, also 3"
	for name, runs := range map[string]string{
		"not at all":                           rotated + " | forget 1+11 2+12 3+13: 11; 12; 13 | deploy 11 12 13: 11; 12; 13",
		"announced; a deploy ends it":          "announce 1+11 2+12 3+13: 1, also 11; 2, also 12; 3, also 13 | deploy 1 2 3: 1; 2; 3",
		"announced; --limit":                   "announce 1+11 2+12 3+13: 1, also 11; 2, also 12; 3, also 13 | deploy 1 - -: 1; 2, also 12; 3, also 13 | deploy - 2 3: 1; 2; 3",
		"the third did not switch":             rotated + " | deploy 11 12 3: 11; 12; 3",
		"the third did not switch and is down": rotated + " | deploy 11 12 -: 11; 12; 13, also 3 | deploy 11 12 3: 11; 12; 3",
		"the third switched; --limit":          rotated + " | deploy - - 13: 11, also 1; 12, also 2; 13 | deploy 11 2 -: 11; 2; 13",
		"once more from the beginning":         rotated + " | announce 11+21 12+22 3+23: 11, also 21; 12, also 22; 3, also 23 | switch 11+21 12+22 3+23: 21, also 11; 22, also 12; 23, also 3 | forget 11+21 12+22 3+23: 21; 22; 23",
		"the third could make no key":          "announce 1+11 2+12 3: 1, also 11; 2, also 12; 3 | deploy 1 2 3: 1; 2; 3",
		"--check of a rotation":                "announce 1 2 3: 1; 2; 3",
		"reinstalled":                          "deploy 1+11 2+12 -: 11; 12; 3",
	} {
		dir := t.TempDir()
		files := KeyFiles{Keys: filepath.Join(dir, "keys.yml"), State: filepath.Join(dir, "state.yml")}
		for i, run := range strings.Split("deploy +1 +2 +3: 1; 2; 3 | "+runs, " | ") {
			did, want, _ := strings.Cut(run, ": ")
			words := strings.Fields(did)
			in := Input{Resolved: resolvedHosts(member(1), member(2), member(3)), KeyFiles: files, Collected: map[string]Reported{}}
			if words[0] != "deploy" {
				in.Phase = Phase(words[0])
			}
			for n, word := range words[1:] {
				if word == "-" {
					continue
				}
				var uses, made int
				if word[0] == '+' {
					fmt.Sscanf(word, "+%d", &made)
				} else {
					fmt.Sscanf(word, "%d+%d", &uses, &made)
				}
				in.Collected[fmt.Sprintf("192.0.2.%d", n+1)] = Reported{PublicKey: keyOrNone(uses), MadeKey: keyOrNone(made)}
			}
			out := mustCompile(t, in)
			var got []string
			for _, h := range out.Document.Hosts {
				got = append(got, keysOf(h.PublicKey, h.AlsoKey))
			}
			if all := strings.Join(got, "; "); all != want {
				t.Errorf("%s: run %d, %s: found %s, wanted %s", name, i, did, all, want)
			}
			if _, err := out.PublicKeys.Write(files); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRotationNeedsEveryHost: the next phase begins with all hosts of the inventory or not
// at all, and what is said tells how their keys are then.
func TestRotationNeedsEveryHost(t *testing.T) {
	const how = " rotate_keys needs every host of the inventory. Not reached, or left out by --limit: 192.0.2.1, 192.0.2.3. " +
		"Bring them back, or take them out of the inventory, and rotate again; a deploy without rotate_keys leaves every host with the key that it uses now."
	in := Input{Resolved: resolvedHosts(member(1), member(2), member(3)), Here: []string{"192.0.2.2"}}
	for phase, want := range map[Phase]string{
		NoRotation: "",
		Announce:   "No key was changed." + how,
		Switch:     "The rotation stops before any new key is in use." + how,
		Forget:     "The rotation stops before any old key is forgotten; peers accept both keys of every host." + how,
	} {
		in.Phase = phase
		out, err := Compile(context.Background(), in)
		if (err == nil) != (want == "") || (out == nil) != (want != "") || err != nil && err.Error() != want {
			t.Errorf("phase %q: error %v, wanted %q", phase, err, want)
		}
	}
	for _, here := range [][]string{nil, {"192.0.2.3", "192.0.2.2", "192.0.2.1", "localhost"}} {
		in.Phase, in.Here = Switch, here
		mustCompile(t, in)
	}
	in.Here = []string{}
	if _, err := Compile(context.Background(), in); err == nil {
		t.Error("a phase begins with no host at all")
	}
}
