package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"mobula/templates"
)

const top = "../../"

// proofs are what the documents may name, and whether make test runs it: Go tests
// by their names, scenarios the way `go test` prints them, packages with tests, and
// what make can do.
type proofs map[string]bool

func allProofs(t *testing.T) proofs {
	t.Helper()
	all := proofs{}
	stages := readStages(t)
	files := map[string][]*ast.File{} // by folder
	tags := map[*ast.File]string{}
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != top && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), filepath.Clean(top)+"/"))
			files[dir], tags[file] = append(files[dir], file), buildTag(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, of := range files {
		all.note(dir, of, func(file *ast.File, test string) bool { return stages.run(dir, tags[file], test) })
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(readText(t, "Makefile"), -1) {
		all["make "+m[1]] = false
	}
	return all
}

func buildTag(file *ast.File) string {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if tag, ok := strings.CutPrefix(c.Text, "//go:build "); ok && c.Pos() < file.Package {
				return tag
			}
		}
	}
	return ""
}

// testStage is one call of go test in lab/test.sh.
type testStage struct {
	tags, folders []string
	run           *regexp.Regexp
}

type testStages []testStage

func readStages(t *testing.T) (all testStages) {
	t.Helper()
	for _, line := range regexp.MustCompile(`(?m)^(?:\S+=\S+ )?(?:stage|along|beside) \S+ (?:tests|go test) (.*)$`).FindAllStringSubmatch(readText(t, "lab/test.sh"), -1) {
		s := testStage{run: regexp.MustCompile("")}
		words := strings.Fields(line[1])
		for i, w := range words {
			switch {
			case w == "-tags":
				s.tags = strings.Split(strings.Trim(words[i+1], "'"), ",")
			case w == "-run":
				s.run = regexp.MustCompile(strings.Trim(words[i+1], "'"))
			case w == `"${raced[@]}"`: // all but what other stages run
				s.folders = append(s.folders, "...")
			case strings.HasPrefix(w, "./"):
				s.folders = append(s.folders, strings.TrimPrefix(w, "./"))
			}
		}
		all = append(all, s)
	}
	if len(all) < 4 {
		t.Fatalf("found %d calls of go test in lab/test.sh", len(all))
	}
	return all
}

// run reports whether a stage runs a test of a folder, in a file with a build tag.
func (all testStages) run(dir, tag, test string) bool {
	for _, s := range all {
		for _, f := range s.folders {
			if (f == dir || f == "...") && (tag == "" || contains(s.tags, tag)) && s.run.MatchString(test) {
				return true
			}
		}
	}
	return false
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}

// note adds what the files of one package prove: tests and fuzz targets, and the
// first field of each element of a []step. A list of steps runs if a test that runs
// leads to it.
func (all proofs) note(dir string, files []*ast.File, runs func(*ast.File, string) bool) {
	all[filepath.Base(dir)+" tests"] = all[filepath.Base(dir)+" tests"] || runs(files[0], "Test")
	declared := map[string]ast.Node{}
	var begin []string
	for _, file := range files {
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				name := d.Name.Name
				if d.Recv != nil {
					break
				}
				declared[name] = d
				if strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") {
					run := runs(file, name)
					all[name] = all[name] || run
					if run {
						begin = append(begin, name)
					}
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok {
						declared[v.Names[0].Name] = v
					}
				}
			}
		}
	}
	reached := map[string]bool{}
	for len(begin) > 0 {
		name := begin[0]
		begin = begin[1:]
		if node := declared[name]; node != nil && !reached[name] {
			reached[name] = true
			ast.Inspect(node, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					begin = append(begin, id.Name)
				}
				return true
			})
		}
	}
	for name, node := range declared {
		ast.Inspect(node, func(n ast.Node) bool { return all.noteSteps(n, reached[name]) })
	}
}

func (all proofs) noteSteps(n ast.Node, runs bool) bool {
	list, ok := n.(*ast.CompositeLit)
	if !ok {
		return true
	}
	array, ok := list.Type.(*ast.ArrayType)
	if !ok {
		return true
	}
	if of, ok := array.Elt.(*ast.Ident); !ok || of.Name != "step" {
		return true
	}
	for _, e := range list.Elts {
		if fields, ok := e.(*ast.CompositeLit); ok && len(fields.Elts) > 0 {
			if name, ok := fields.Elts[0].(*ast.BasicLit); ok {
				text, _ := strconv.Unquote(name.Value)
				text = strings.ReplaceAll(text, " ", "-")
				all[text] = all[text] || runs
			}
		}
	}
	return true
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(top + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// rows returns the rows of all tables of a text whose last column has the given
// heading.
func rows(text, heading string) [][]string {
	var all [][]string
	inside := false
	for _, line := range strings.Split(text, "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case cells[len(cells)-1] == heading:
			inside = true
		case inside && !strings.HasPrefix(cells[0], "---"):
			all = append(all, cells)
		}
	}
	return all
}

var codeSpan = regexp.MustCompile("`([^`]+)`( tests)?")

// TestEveryRowIsProven holds that what the documents name as a proof exists, and
// that make test runs one proof of each row at least.
func TestEveryRowIsProven(t *testing.T) {
	all := allProofs(t)
	for _, name := range []string{"fresh-deploy", "two-at-once", "a-way-around", "transaction tests", "TestRelayDies", "TestPins", "TestDelayCarriesTCP"} {
		if !all[name] {
			t.Errorf("%s: found that make test does not run it", name)
		}
	}
	for _, name := range []string{"what-the-agent-costs", "TestHealing", "TestMachines", "make faults"} {
		if run, known := all[name]; run || !known {
			t.Errorf("%s: found %v (known: %v), wanted one that make test does not run", name, run, known)
		}
	}
	for _, document := range []string{"docs/failure-modes.md", "docs/security.md"} {
		found := rows(readText(t, document), "tested by")
		if len(found) < 10 {
			t.Errorf("%s: found %d rows with a proof", document, len(found))
		}
		for i, row := range found {
			proof := row[len(row)-1]
			if proof == "the same" && i > 0 {
				continue
			}
			runs := false
			for _, m := range codeSpan.FindAllStringSubmatch(proof, -1) {
				name := m[1] + m[2]
				run, known := all[name]
				runs = runs || run
				if !known && m[1] != "-tags ovs" {
					t.Errorf("%s: %s: there is no scenario, test or make target %q", document, row[0], name)
				}
			}
			if !runs {
				t.Errorf("%s: %s: found %q, wanted the name of a scenario or test that make test runs", document, row[0], proof)
			}
		}
	}
}

// TestExposureIsStated holds that each unit has a bound, and that the document
// states it.
func TestExposureIsStated(t *testing.T) {
	units, err := fs.Glob(templates.FS, "systemd/*.service")
	if err != nil || len(units) != len(templates.Exposure) {
		t.Fatalf("found %d units and %d bounds, %v", len(units), len(templates.Exposure), err)
	}
	stated := map[string]string{}
	for _, row := range rows(readText(t, "docs/security.md"), "what it needs") {
		stated[strings.Trim(row[0], "`")] = row[1]
	}
	for _, unit := range units {
		unit = filepath.Base(unit)
		if want := fmt.Sprintf("%.1f", templates.Exposure[unit]); stated[unit] != want {
			t.Errorf("docs/security.md: %s: found %q, wanted %s", unit, stated[unit], want)
		}
	}
}
