package plan

import "mobula/helper/internal/spec"

// Left is Without where what the NIC has is for the host's network manager to give.
func Left(facts spec.Facts) *spec.Host {
	h := Without(facts)
	h.Addresses, h.Routes = nil, nil
	for i := range h.Links {
		h.Links[i].Free, h.Links[i].Optional = true, true
	}
	return h
}

// left is what is to be left of the other way outside.
func left(f *spec.Facts) *spec.Host {
	switch {
	case f.Other == nil:
		return &spec.Host{}
	case f.Booted:
		return Left(*f.Other)
	}
	return Without(*f.Other)
}

// beside adds what is left to do of another way outside: the host has of it what it had
// before. What the host has now comes first where both want something.
func beside(h *spec.Host, left *spec.Host) {
	nics, keys, paths := map[string]bool{}, map[[2]string]bool{}, map[string]bool{}
	for _, l := range h.Links {
		nics[l.Name] = nics[l.Name] || l.Kind == spec.Physical
	}
	for _, s := range h.Settings {
		keys[[2]string{s.NS, s.Key}] = true
	}
	for _, f := range h.Files {
		paths[f.Path] = true
	}
	for _, s := range left.Settings {
		if !nics[s.NIC] && !keys[[2]string{s.NS, s.Key}] {
			h.Settings = append(h.Settings, s)
		}
	}
	for _, f := range left.Files {
		if !paths[f.Path] {
			h.Files = append(h.Files, f)
		}
	}
	h.Links = append(h.Links, left.Links...)
	h.Addresses = append(h.Addresses, left.Addresses...)
	h.Routes = append(h.Routes, left.Routes...)
	h.Absent = append(h.Absent, left.Absent...)
}
