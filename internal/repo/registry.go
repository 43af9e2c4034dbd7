package repo

import "slices"

// Registry is how one registry is reached. The zero value of everything but
// Host is how a registry is reached that nothing is said of.
type Registry struct {
	Host     string   // host[:port], as names have it
	Mirrors  []string // host[:port][/prefix]; asked first, in this order
	Insecure bool     // plain HTTP
	CAFile   string   // certificates in PEM, trusted beside the system's; "" is none
	// FullNamesOnly keeps short names from being looked for here.
	FullNamesOnly bool
}

// Registries are those that something is said of, in the order in which short
// names are looked for in them.
type Registries []Registry

// Has reports whether something is said of the registry at host.
func (r Registries) Has(host string) bool {
	return slices.ContainsFunc(r, func(reg Registry) bool { return reg.Host == host })
}

// Get returns how the registry at host is reached.
func (r Registries) Get(host string) Registry {
	if i := slices.IndexFunc(r, func(reg Registry) bool { return reg.Host == host }); i >= 0 {
		return r[i]
	}
	return Registry{Host: host}
}

// Default returns the registry that a short name means where no other is
// given, or "" if there is none.
func (r Registries) Default() string {
	i := slices.IndexFunc(r, func(reg Registry) bool { return !reg.FullNamesOnly })
	if i < 0 {
		return ""
	}
	return r[i].Host
}

// Sources is where an image may come from.
type Sources struct {
	Aliases    Aliases
	Registries Registries
}

// Candidates returns the full names that n may stand for, in the order in
// which they are to be looked for: what the alias table says, else n itself in
// each registry. Of an image that is gone the error is a *GoneError.
func (s Sources) Candidates(n Name) ([]Name, error) {
	target, ok, err := s.Aliases.Lookup(n)
	if err != nil {
		return nil, err
	}
	if ok {
		n = target
	}
	if n.Registry != "" {
		return []Name{n}, nil
	}
	var names []Name
	for _, reg := range s.Registries {
		if !reg.FullNamesOnly {
			names = append(names, n.At(reg.Host))
		}
	}
	return names, nil
}
