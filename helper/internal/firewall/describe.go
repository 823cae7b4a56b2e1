package firewall

import "strings"

// item is a rule of a chain, or an element of a set or map.
type item struct{ of, text string }

// items returns what a ruleset holds, in its order.
func items(ruleset string) []item {
	var all []item
	of := ""
	for _, line := range strings.Split(ruleset, "\n") {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		elements, isList := strings.CutPrefix(line, "elements = { ")
		switch {
		case line == "", line == "}", strings.HasPrefix(line, "#"):
		case isList:
			for _, element := range strings.Split(strings.TrimSuffix(elements, " }"), ", ") {
				all = append(all, item{of, element})
			}
		case len(words) == 3 && words[2] == "{" && (words[0] == "set" || words[0] == "map" || words[0] == "chain"):
			of = words[1]
		default:
			all = append(all, item{of, line})
		}
	}
	return all
}

// describe tells what goes and what comes, and of which chain, set or map it is.
func describe(from, to string) string {
	count := map[item]int{}
	before, after := items(from), items(to)
	for _, i := range before {
		count[i]--
	}
	for _, i := range after {
		count[i]++
	}
	var parts []string
	for _, i := range before {
		if count[i] < 0 {
			parts = append(parts, i.of+": - "+i.text)
			count[i]++
		}
	}
	for _, i := range after {
		if count[i] > 0 {
			parts = append(parts, i.of+": + "+i.text)
			count[i]--
		}
	}
	return strings.Join(parts, "; ")
}
