package internal_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mostWords is what a cell of a table of measurements may have: a sentence.
const mostWords = 30

var (
	noteNumber = regexp.MustCompile(`\[(\d+)\]`)
	noteBegin  = regexp.MustCompile(`(?m)^(\d+)\. `)
	proofName  = regexp.MustCompile(`^(?:Test\w+|make [a-z-]+|[A-Za-z0-9_]+(?:,?-[A-Za-z0-9_]+)+,?)$`)
)

// wrongMeasurements are the flaws of a document's tables: cells that are too long, notes that
// are not below the table that names them, or that no cell names, and tests that there are not.
func wrongMeasurements(text string, known proofs) (wrong []string) {
	for _, block := range strings.Split(text, "\n\n|")[1:] {
		table, below, _ := strings.Cut("|"+block, "\n\n")
		var named, written []string
		for _, line := range strings.Split(table, "\n") {
			cells := strings.Split(strings.Trim(line, "| "), "|")
			for _, cell := range cells {
				if n := len(strings.Fields(cell)); n > mostWords {
					wrong = append(wrong, "longer than a sentence: "+strings.TrimSpace(cell))
				}
				for _, m := range noteNumber.FindAllStringSubmatch(cell, -1) {
					named = append(named, m[1])
				}
			}
			for _, m := range codeSpan.FindAllStringSubmatch(cells[len(cells)-1], -1) {
				if _, is := known[m[1]]; !is && proofName.MatchString(m[1]) {
					wrong = append(wrong, "no such test: "+m[1])
				}
			}
		}
		if notes, _, _ := strings.Cut(below, "\n\n"); noteBegin.MatchString(notes) && strings.HasPrefix(notes, "1. ") {
			for _, m := range noteBegin.FindAllStringSubmatch(notes, -1) {
				written = append(written, m[1])
			}
		}
		slices.Sort(named)
		if named = slices.Compact(named); !slices.Equal(named, written) {
			first, _, _ := strings.Cut(table, "\n")
			wrong = append(wrong, "notes "+strings.Join(named, " ")+" in the cells and "+strings.Join(written, " ")+" below: "+first)
		}
	}
	return wrong
}

// TestARowIsAMeasurement: a cell of the measurements is a sentence at most, what is to be said
// besides is in a note, and who wants to measure again finds the test.
func TestARowIsAMeasurement(t *testing.T) {
	text := readText(t, "docs/performance.md")
	if n := len(rows(text, "tested by")); n < 50 {
		t.Errorf("docs/performance.md: found %d rows with a test", n)
	}
	for _, w := range wrongMeasurements(text, allProofs(t)) {
		t.Errorf("docs/performance.md: %s", w)
	}
	flawed := "\n\n| | tested by |\n|---|---|\n| a [1] [2] | `TestNothing`, `make nothing`, `no-scenario` |\n| " + strings.Repeat("a ", mostWords+1) + "| `go test` |\n\n1. B\n\nC\n"
	if got := wrongMeasurements(flawed, proofs{}); len(got) != 5 {
		t.Errorf("found %q, wanted three tests that there are not, a long cell, and a note that is missing", got)
	}
}
