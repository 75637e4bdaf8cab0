package apikey

import (
	"hash/crc32"
	"math/big"
	"regexp"
	"strings"
	"testing"
)

// FuzzParse compares with the documented expression and a checksum
// reckoned in another way.
func FuzzParse(f *testing.F) {
	form := regexp.MustCompile(`\Atg_([0-9A-Za-z]{16})_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}\z`)
	body := "tg_" + strings.Repeat("a", idSize) + "_" + strings.Repeat("B", secretSize)
	good := body + "_" + checksum(body)
	for _, seed := range []string{
		good, good + "\n", " " + good, good[:len(good)-1], body + "_000000", strings.ToUpper(good), strings.Replace(good, "_", "-", 2),
		"tg_", "", strings.Replace(good, "a", "\x00", 1), strings.Replace(good, "aa", "ä", 1), strings.Repeat("_", keySize),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		id, ok := parse(key)
		m := form.FindStringSubmatch(key)
		want := false
		if m != nil {
			end := strings.LastIndexByte(key, '_')
			sum, digits := new(big.Int), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			for _, c := range key[end+1:] {
				sum.Add(sum.Mul(sum, big.NewInt(62)), big.NewInt(int64(strings.IndexRune(digits, c))))
			}
			want = sum.Cmp(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(key[:end]))))) == 0
		}
		if ok != want || ok && id != m[1] {
			t.Fatalf("%q: %q %v, want %v", key, id, ok, want)
		}
	})
}

func TestRandomBase62(t *testing.T) {
	t.Parallel()
	seen := map[rune]bool{}
	ids := map[string]bool{}
	for range 200 {
		id := randomBase62(idSize)
		if !isBase62(id, idSize) || ids[id] {
			t.Fatalf("id %q", id)
		}
		ids[id] = true
		for _, r := range id {
			seen[r] = true
		}
	}
	if len(seen) != 62 {
		t.Errorf("%d letters in use", len(seen))
	}
}
