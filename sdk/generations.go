package tollgate

// generations is a map that forgets its older half when rotate is called, so
// that it stays bounded without a time for each entry. It is not safe for
// concurrent use.
type generations[K comparable, V any] struct{ young, old map[K]V }

func newGenerations[K comparable, V any]() generations[K, V] {
	return generations[K, V]{young: map[K]V{}}
}

func (g *generations[K, V]) get(key K) (V, bool) {
	if value, ok := g.young[key]; ok {
		return value, true
	}
	value, ok := g.old[key]
	return value, ok
}

func (g *generations[K, V]) has(key K) bool {
	_, ok := g.get(key)
	return ok
}

func (g *generations[K, V]) set(key K, value V) { g.young[key] = value }

func (g *generations[K, V]) delete(key K) {
	delete(g.young, key)
	delete(g.old, key)
}

func (g *generations[K, V]) len() int { return len(g.young) + len(g.old) }

func (g *generations[K, V]) rotate() { g.young, g.old = map[K]V{}, g.young }
