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

// proofs are what the documents may name: Go tests by their names, scenarios the
// way `go test` prints them, packages with tests, and what make can do.
type proofs map[string]bool

func allProofs(t *testing.T) proofs {
	t.Helper()
	all := proofs{}
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != top && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			all[filepath.Base(filepath.Dir(path))+" tests"] = true
			ast.Inspect(file, all.note)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(readText(t, "Makefile"), -1) {
		all["make "+m[1]] = true
	}
	return all
}

// note adds tests and fuzz targets, and the first field of each element of a
// []step.
func (all proofs) note(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Recv == nil && (strings.HasPrefix(n.Name.Name, "Test") || strings.HasPrefix(n.Name.Name, "Fuzz")) {
			all[n.Name.Name] = true
		}
	case *ast.CompositeLit:
		array, ok := n.Type.(*ast.ArrayType)
		if !ok {
			return true
		}
		if of, ok := array.Elt.(*ast.Ident); !ok || of.Name != "step" {
			return true
		}
		for _, e := range n.Elts {
			if fields, ok := e.(*ast.CompositeLit); ok && len(fields.Elts) > 0 {
				if name, ok := fields.Elts[0].(*ast.BasicLit); ok {
					text, _ := strconv.Unquote(name.Value)
					all[strings.ReplaceAll(text, " ", "-")] = true
				}
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

// TestEveryRowIsProven holds that what the documents name as a proof exists.
func TestEveryRowIsProven(t *testing.T) {
	all := allProofs(t)
	for _, document := range []string{"docs/failure-modes.md", "docs/security.md"} {
		found := rows(readText(t, document), "proven by")
		if len(found) < 10 {
			t.Errorf("%s: found %d rows with a proof", document, len(found))
		}
		for i, row := range found {
			proof := row[len(row)-1]
			names := codeSpan.FindAllStringSubmatch(proof, -1)
			if len(names) == 0 && !(proof == "the same" && i > 0) {
				t.Errorf("%s: %s: found %q, wanted the name of a scenario or test", document, row[0], proof)
			}
			for _, m := range names {
				if name := m[1] + m[2]; !all[name] && m[1] != "-tags ovs" {
					t.Errorf("%s: %s: there is no scenario, test or make target %q", document, row[0], name)
				}
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
