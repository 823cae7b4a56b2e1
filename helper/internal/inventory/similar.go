package inventory

import "strings"

// reserved are names that Ansible or Mobula's own playbooks give a meaning, and
// which are therefore never taken for a misspelled variable.
var reserved = setOf("discovered_interpreter_python", "environment", "gather_subset", "group_names", "groups",
	"hosts", "hostvars", "inventory_dir", "inventory_file", "inventory_hostname", "inventory_hostname_short",
	"module_setup", "omit", "play_hosts", "playbook_dir", "port", "reinstall", "remote_user", "role_name",
	"role_names", "role_path", "rotate_keys", "vars")

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// suggester finds the known name that an unknown one was probably meant to be.
// It remembers its answers, because 3,000 hosts see the same variables.
type suggester struct {
	known   []string
	answers map[string]string
}

func newSuggester(known ...string) *suggester {
	return &suggester{known: known, answers: map[string]string{}}
}

// suggest returns the known name closest to name, "" if none is close.
func (s *suggester) suggest(name string) string {
	answer, asked := s.answers[name]
	if !asked {
		answer = s.find(name)
		s.answers[name] = answer
	}
	return answer
}

func (s *suggester) find(name string) string {
	lower := strings.ToLower(name)
	if reserved[lower] {
		return ""
	}
	for _, prefix := range []string{"ansible_", "mobula_", "__mobula_"} {
		if strings.HasPrefix(lower, prefix) {
			return ""
		}
	}
	best, bestDistance := "", 3
	for _, known := range s.known {
		// Two slips in a short name make a different word.
		limit := 2
		if len(lower) < 8 || len(known) < 8 {
			limit = 1
		}
		if d := distance(lower, known, limit); d <= limit && d < bestDistance {
			best, bestDistance = known, d
		}
	}
	return best
}

// distance returns how many bytes must be inserted, deleted, replaced or swapped
// with their neighbor to make b of a (Damerau-Levenshtein, optimal string
// alignment), or something above limit if it is above limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, above, row := rows[0], rows[1], rows[2]
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
