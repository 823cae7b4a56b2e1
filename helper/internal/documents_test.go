package internal_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
)

// documents returns the paths of all documents, from the top of the project.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != top && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			all = append(all, filepath.ToSlash(strings.TrimPrefix(path, filepath.Clean(top)+"/")))
		}
		return nil
	})
	if err != nil || len(all) < 10 {
		t.Fatalf("found the documents %v, %v", all, err)
	}
	return all
}

var (
	heading  = regexp.MustCompile(`(?m)^#+ (.+)$`)
	inAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	mdLink   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeText = regexp.MustCompile("`[^`\n]*`")
)

// prose is a document without its code, in which brackets are no links.
func prose(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "    ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// anchors are what links to the headings of a document end in, as forges make them.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(prose(text), -1) {
		title := inAnchor.ReplaceAllString(strings.ToLower(m[1]), "")
		all[strings.ReplaceAll(title, " ", "-")] = true
	}
	return all
}

// brokenLinks are the relative links of a document that lead nowhere.
func brokenLinks(t *testing.T, document, text string) (broken []string) {
	t.Helper()
	for _, m := range mdLink.FindAllStringSubmatch(codeText.ReplaceAllString(prose(text), ""), -1) {
		to, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(to, "://") {
			continue
		}
		target := document
		if to != "" {
			target = path.Join(path.Dir(document), to)
		}
		if _, err := os.Stat(top + target); err != nil || strings.HasPrefix(target, "../") {
			broken = append(broken, m[1])
		} else if anchor != "" && !anchors(readText(t, target))[anchor] {
			broken = append(broken, m[1])
		}
	}
	return broken
}

// TestLinksLeadSomewhere holds every relative link of every document, with its anchor.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, document := range documents(t) {
		if broken := brokenLinks(t, document, readText(t, document)); len(broken) > 0 {
			t.Errorf("%s: found links to %q, wanted files and headings that there are", document, broken)
		}
	}
	text := "[a](nowhere.md) [b](../LICENSE) [c](design.md#no-such-heading) [d](design.md#healing) `[e](code)` [f](https://example.com/)"
	if got, want := strings.Join(brokenLinks(t, "docs/x.md", text), " "), "nowhere.md design.md#no-such-heading"; got != want {
		t.Errorf("found broken links %q, wanted %q", got, want)
	}
}

// TestEveryDocumentIsFound: from the README, by links alone.
func TestEveryDocumentIsFound(t *testing.T) {
	found, next := map[string]bool{}, []string{"README.md"}
	for len(next) > 0 {
		document := next[0]
		next = next[1:]
		if found[document] || !strings.HasSuffix(document, ".md") {
			continue
		}
		found[document] = true
		for _, m := range mdLink.FindAllStringSubmatch(prose(readText(t, document)), -1) {
			if to, _, _ := strings.Cut(m[1], "#"); to != "" && !strings.Contains(to, "://") {
				next = append(next, path.Join(path.Dir(document), to))
			}
		}
	}
	for _, document := range documents(t) {
		if !found[document] {
			t.Errorf("%s: found no way to it from README.md", document)
		}
	}
}

// TestReadmeIsShort: one screen to success.
func TestReadmeIsShort(t *testing.T) {
	text := readText(t, "README.md")
	if lines := strings.Count(text, "\n"); lines > 100 {
		t.Errorf("README.md: found %d lines, wanted 100 at most", lines)
	}
	for _, said := range []string{"make demo", "make test", "ansible-playbook -i hosts.yml deploy.yml", "mobula client add",
		"* Tested: ", "`uplink_mode: moved` with `access_address: manual` is the original Mobula"} {
		if !strings.Contains(text, said) {
			t.Errorf("README.md: does not say %q", said)
		}
	}
}

// TestDocumentsNameWhatThereIs: targets of make, playbooks and examples that documents tell
// the reader to use, and links of the network in pictures and words.
func TestDocumentsNameWhatThereIs(t *testing.T) {
	makefile := readText(t, "Makefile")
	golden := readText(t, "helper/internal/plan/testdata/host1-ifupdown.txt") + readText(t, "helper/internal/plan/testdata/host256-shared.txt")
	for _, document := range documents(t) {
		text := readText(t, document)
		for _, m := range regexp.MustCompile("(?m)(?:^    |`)make ([a-z-]+)").FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: found make %s, which there is not", document, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`\b((?:playbooks/)?[a-z]+\.yml)\.example|\b(playbooks/[a-z]+\.yml)`).FindAllString(text, -1) {
			if _, err := os.Stat(top + m); err != nil {
				t.Errorf("%s: found %s, which there is not", document, m)
			}
		}
		unknown := map[string]bool{}
		for _, name := range regexp.MustCompile(`\b(?:mo-[a-z]+(?:-[a-z]+)?|veth_fac0|ovsbr-[a-z]+)\b`).FindAllString(text, -1) {
			if !strings.Contains(golden, name) {
				unknown[name] = true
			}
		}
		if len(unknown) > 0 {
			var names []string
			for name := range unknown {
				names = append(names, name)
			}
			sort.Strings(names)
			t.Errorf("%s: found the links %v, which no plan has", document, names)
		}
	}
}
