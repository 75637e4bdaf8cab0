package tollgate

// halves is a map that forgets its older half at once, when rotate is called.
// It is not safe for concurrent use.
type halves[K comparable, V any] struct{ young, old map[K]V }

func newHalves[K comparable, V any]() halves[K, V] {
	return halves[K, V]{young: map[K]V{}}
}

func (h *halves[K, V]) get(key K) (V, bool) {
	if value, ok := h.young[key]; ok {
		return value, true
	}
	value, ok := h.old[key]
	return value, ok
}

func (h *halves[K, V]) has(key K) bool {
	_, ok := h.get(key)
	return ok
}

func (h *halves[K, V]) set(key K, value V) { h.young[key] = value }

func (h *halves[K, V]) delete(key K) {
	delete(h.young, key)
	delete(h.old, key)
}

func (h *halves[K, V]) len() int { return len(h.young) + len(h.old) }

func (h *halves[K, V]) rotate() { h.young, h.old = map[K]V{}, h.young }
