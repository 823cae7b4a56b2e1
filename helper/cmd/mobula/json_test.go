package main

import (
	"encoding"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/worker"
)

// printed is what each command prints with --json.
var printed = map[string]any{
	"version": versionReport{}, "check": checkReport{}, "check --host": hostReport{}, "compile": compileOutput{}, "key": keyReport{},
	"plan": worker.Outcome{}, "confirm": confirmReport{}, "status": statusReport{}, "client add": made{}, "client list": network.Client{},
}

// TestJSONIsDocumented holds that docs/json.md has all fields that are printed, with their
// types, and no others.
func TestJSONIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "\n## ")[1:]
	if len(sections) != len(printed) {
		t.Errorf("found %d sections, wanted %d", len(sections), len(printed))
	}
	for _, section := range sections {
		name, rest, _ := strings.Cut(section, "\n")
		value := printed[name]
		if value == nil {
			t.Errorf("found section %q, wanted that of a command", name)
			continue
		}
		var told []string
		for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| [^|]+ \\|$").FindAllStringSubmatch(rest, -1) {
			if m[2] != "object, may be missing" && m[2] != "list, may be missing" { // their fields follow
				told = append(told, m[1]+": "+m[2])
			}
		}
		have := shape("", reflect.TypeOf(value), "")
		slices.Sort(told)
		slices.Sort(have)
		for _, line := range have {
			if !slices.Contains(told, line) {
				t.Errorf("%s: docs/json.md does not have %q", name, line)
			}
		}
		for _, line := range told {
			if !slices.Contains(have, line) {
				t.Errorf("%s: docs/json.md has %q, which is not printed", name, line)
			}
		}
	}
}

// shape lists the fields of a type, each with what JSON makes of it.
func shape(path string, of reflect.Type, missing string) (all []string) {
	texts := reflect.TypeOf((*encoding.TextMarshaler)(nil)).Elem()
	switch {
	case of == reflect.TypeOf(time.Time{}):
		return []string{path + ": time" + missing}
	case of == reflect.TypeOf(&time.Time{}) && missing == "":
		return []string{path + ": time or null"}
	case of.Kind() == reflect.Pointer:
		return shape(path, of.Elem(), missing)
	case of.Implements(texts), of.Kind() == reflect.String:
		return []string{path + ": text" + missing}
	}
	switch of.Kind() {
	case reflect.Struct:
		for i := 0; i < of.NumField(); i++ {
			name, option, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			gone := ""
			if option == "omitempty" {
				gone = ", may be missing"
			}
			if missing != "" && of.Field(i).Type.Kind() == reflect.Slice {
				gone = missing // as what it is in
			}
			all = append(all, shape(strings.TrimPrefix(path+"."+name, "."), of.Field(i).Type, gone)...)
		}
		return all
	case reflect.Slice:
		if of.Elem().Kind() == reflect.Struct {
			missing = ""
		}
		if strings.HasSuffix(path, "differences") {
			missing = " or null"
		}
		return shape(path+"[]", of.Elem(), missing)
	case reflect.Map:
		return shape(path+"{}", of.Elem(), "")
	case reflect.Bool:
		return []string{path + ": true or false" + missing}
	case reflect.Uint16, reflect.Int, reflect.Uint64, reflect.Int64, reflect.Float64:
		return []string{path + ": number" + missing}
	}
	return []string{path + ": " + of.String()}
}

// TestJSONIsPrinted runs what needs no host: what is printed is the type that the document
// describes, and nothing else.
func TestJSONIsPrinted(t *testing.T) {
	f := files{t, t.TempDir()}
	document := f.write("network.json", string(plantest.Document(plantest.Host(1), plantest.Host(2)).Encode()))
	client := func(words ...string) []string {
		return append(append([]string{"client"}, words...), "--json", "--network", document, "--extra-wires", filepath.Join(f.dir, "wires.yml"), "--dir", filepath.Join(f.dir, "clients"))
	}
	for _, c := range []struct {
		stdin string
		args  []string
		shape any
	}{
		{"", []string{"version", "--json"}, &versionReport{}},
		{"", []string{"check", "--json", "--document", document}, &checkReport{}},
		{twoHosts, f.args("check", "--json"), &checkReport{}},
		{twoHosts, f.args("compile", "--dry-run"), &compileOutput{}},
		{"", client("add", "laptop"), &made{}},
		{"", client("rotate", "laptop"), &made{}},
		{"", client("list"), &[]network.Client{}},
		{"", client("remove", "laptop"), &made{}},
		{"", client("list"), &[]network.Client{}},
	} {
		code, out, stderr := mobula(c.stdin, c.args...)
		decoder := json.NewDecoder(strings.NewReader(out))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(c.shape); err != nil || code != exitOK || decoder.More() || stderr != "" || strings.Contains(out, "null") {
			t.Errorf("%v: exit code %d, %v\n%s%s", c.args, code, err, out, stderr)
		}
	}
}
