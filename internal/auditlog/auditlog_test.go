package auditlog

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var full = Leaf{
	ID: "0190a0b0-0000-7000-8000-000000000001", Time: time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC),
	Actor:  Actor{UserID: "u1", Username: "anna", SessionID: "s1", APIKeyID: "k1"},
	Action: "order.cancel", Outcome: "success", Reason: "r", Resource: "orders/7", IP: "203.0.113.7",
	UserAgent: "curl/8", RequestID: "q1", Details: map[string]string{"b": "2", "a": "\x00\t\"\\\u2028\u00e9</"}, RecordedBy: "svc",
	Salt: []byte("0123456789abcdef"),
}

func TestLeafBytes(t *testing.T) {
	t.Parallel()
	const want = `tollgate-audit-v1
{"action":"order.cancel","actor":{"apiKeyId":"k1","sessionId":"s1","userId":"u1","username":"anna"},` +
		`"details":{"a":"\u0000\t\"\\` + "\u2028\u00e9" + `</","b":"2"},"id":"0190a0b0-0000-7000-8000-000000000001","ip":"203.0.113.7",` +
		`"outcome":"success","reason":"r","recordedBy":"svc","requestId":"q1","resource":"orders/7","salt":"MDEyMzQ1Njc4OWFiY2RlZg==",` +
		`"time":"2026-03-01T12:00:00.000001Z","userAgent":"curl/8"}`
	if got := string(full.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	back, err := ParseLeaf(full.Bytes())
	if err != nil || !reflect.DeepEqual(back, full) {
		t.Errorf("read back: %+v %v", back, err)
	}
	for name, text := range map[string]string{
		"no header": want[1:], "a space": strings.Replace(want, `":"`, `": "`, 1), "a member twice": strings.Replace(want, `"ip":`, `"ip":"","ip":`, 1),
		"another member": strings.Replace(want, `"ip":`, `"i":"","ip":`, 1), "an escape too many": strings.Replace(want, `anna`, `\u0061nna`, 1),
		"cut off": want[:len(want)-1], "more": want + " ",
	} {
		if _, err := ParseLeaf([]byte(text)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// TestLeafIsCanonical checks against encoding/json: the same value, and keys in the order
// of UTF-16 (RFC 8785 §3.2.3).
func TestLeafIsCanonical(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune("ab\"\\/\x00\x01\x1f\x7f\n\r\t\b\f\u00e9\u2028\u2029\ue000\uffff\U0001F600\U00010000")
	text := func() string {
		var b strings.Builder
		for range random.IntN(6) {
			b.WriteRune(alphabet[random.IntN(len(alphabet))])
		}
		return b.String()
	}
	for range 2000 {
		l := Leaf{ID: text(), Time: full.Time, Reason: text(), UserAgent: text(), Details: map[string]string{}, Salt: full.Salt}
		for range random.IntN(5) {
			l.Details[text()] = text()
		}
		back, err := ParseLeaf(l.Bytes())
		if err != nil || !reflect.DeepEqual(back, l) {
			t.Fatalf("%+v became %+v: %v", l, back, err)
		}
	}
	keys := []string{"\U00010000", "\ue000", "\U0001F600", "a", "", "\u00e9"}
	slices.SortFunc(keys, byUTF16)
	if want := []string{"", "a", "\u00e9", "\U00010000", "\U0001F600", "\ue000"}; !slices.Equal(keys, want) {
		t.Errorf("order %q", keys)
	}
}

func TestLeafIsBounded(t *testing.T) {
	t.Parallel()
	l := full
	l.Details = map[string]string{}
	for i := range 32 {
		l.Details[fmt.Sprint(i)] = strings.Repeat("\x01", 512)
	}
	b := l.Append([]byte("before"))
	text := strings.TrimPrefix(string(b), "before")
	if len(text) > MaxLeaf {
		t.Fatalf("%d bytes", len(text))
	}
	back, err := ParseLeaf([]byte(text))
	if err != nil || len(back.Details["sha256"]) != 64 {
		t.Errorf("%v %v", back.Details, err)
	}
	other := l
	other.Details = maps.Clone(l.Details)
	other.Details["0"] = "other"
	if string(other.Bytes()) == text {
		t.Error("other details, the same leaf")
	}
	// Texts of a log that others keep may be of any length, and longer as they are written.
	long := full
	long.Resource = strings.Repeat("x", MaxLeaf)
	for _, text := range []string{string(long.Bytes()), strings.Replace(string(full.Bytes()), "orders/7", strings.Repeat("\xff", MaxLeaf/2), 1)} {
		if _, err := ParseLeaf([]byte(text)); err == nil {
			t.Errorf("a leaf of %d bytes is read", len(text))
		}
	}
}

func FuzzParseLeaf(f *testing.F) {
	f.Add(full.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := ParseLeaf(b); err == nil && string(l.Bytes()) != string(b) {
			t.Error("read what it does not write")
		}
	})
}

// testLog is a log of n leaves in memory.
type testLog struct {
	stored []tlog.Hash
	leaves [][]byte
	signer note.Signer
	keys   Keys
}

const testOrigin = "tollgate.example/audit"

func newTestLog(t *testing.T, n int) *testLog {
	t.Helper()
	private, public, err := note.GenerateKey(nil, testOrigin)
	must(t, err)
	l := &testLog{}
	l.signer, err = note.NewSigner(private)
	must(t, err)
	l.keys, err = ParseKeys(public)
	must(t, err)
	for i := range n {
		leaf := full
		leaf.ID = fmt.Sprint(i)
		l.leaves = append(l.leaves, leaf.Bytes())
		hashes, err := tlog.StoredHashes(int64(i), l.leaves[i], l)
		must(t, err)
		l.stored = append(l.stored, hashes...)
	}
	return l
}

func (l *testLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		list[i] = l.stored[index]
	}
	return list, nil
}

func (l *testLog) checkpoint(t *testing.T, size int64) (Checkpoint, []byte) {
	t.Helper()
	root, err := tlog.TreeHash(size, l)
	must(t, err)
	c := Checkpoint{Origin: testOrigin, Size: size, Root: root}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, l.signer)
	must(t, err)
	return c, signed
}

// TestProof checks proofs with transparency-dev's reader and verifier, which share no code
// with ours.
func TestProof(t *testing.T) {
	t.Parallel()
	log := newTestLog(t, 70)
	for _, size := range []int64{1, 2, 3, 64, 65, 70} {
		c, signed := log.checkpoint(t, size)
		for _, index := range []int64{0, 1, size / 2, size - 1} {
			if index >= size {
				continue
			}
			hashes, err := tlog.ProveRecord(size, index, log)
			must(t, err)
			p := &Proof{Leaf: log.leaves[index], Index: index, Hashes: hashes, Checkpoint: signed}
			file := p.Format()

			var theirs formats.TLogProof
			must(t, theirs.Unmarshal(file))
			var siblings [][]byte
			for _, h := range theirs.Hashes {
				siblings = append(siblings, h[:])
			}
			must(t, proof.VerifyInclusion(rfc6962.DefaultHasher, theirs.Index, uint64(size), rfc6962.DefaultHasher.HashLeaf(theirs.ExtraData), siblings, c.Root[:]))

			read, err := ParseProof(file)
			must(t, err)
			leaf, checkpoint, err := read.Verify(log.keys)
			must(t, err)
			if leaf.ID != fmt.Sprint(index) || checkpoint != c {
				t.Errorf("%d of %d: %+v %+v", index, size, leaf, checkpoint)
			}
		}
	}
}

// TestForgedProof checks that a proof with anything changed does not verify.
func TestForgedProof(t *testing.T) {
	t.Parallel()
	log, other := newTestLog(t, 7), newTestLog(t, 7)
	_, signed := log.checkpoint(t, 7)
	hashes, err := tlog.ProveRecord(7, 3, log)
	must(t, err)
	good := Proof{Leaf: log.leaves[3], Index: 3, Hashes: hashes, Checkpoint: signed}
	text := string(good.Format())
	if _, _, err := (&good).Verify(log.keys); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (&good).Verify(other.keys); err == nil {
		t.Error("verified with another log's key")
	}
	if _, _, err := (&good).Verify(nil); err == nil {
		t.Error("verified without a key")
	}
	for i := range text { // every byte matters
		changed := []byte(text)
		changed[i] ^= 1
		p, err := ParseProof(changed)
		if err != nil {
			continue
		}
		if _, _, err := p.Verify(log.keys); err == nil {
			t.Fatalf("byte %d changed: verified\n%s", i, changed)
		}
	}
	_, theirs := other.checkpoint(t, 7)
	forged := good
	forged.Checkpoint = theirs
	if _, _, err := forged.Verify(log.keys); err == nil {
		t.Error("verified by a checkpoint of another key")
	}
}

func TestParseCheckpoint(t *testing.T) {
	t.Parallel()
	log := newTestLog(t, 3)
	c, signed := log.checkpoint(t, 3)
	for _, text := range []string{c.Text(), string(signed)} {
		if got, err := ParseCheckpoint(text); err != nil || got != c {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	root := base64.StdEncoding.EncodeToString(c.Root[:])
	for _, text := range []string{
		"", "\n3\n" + root + "\n", "a\n03\n" + root + "\n", "a\n-3\n" + root + "\n", "a\n3\nAAAA\n", "a\n3\n" + root + "\nmore\n", "a\n3\n", "a\n3.0\n" + root + "\n",
	} {
		if got, err := ParseCheckpoint(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestTilePaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]Tile{
		"tile/0/000":                    {Width: 256},
		"tile/0/000.p/1":                {Width: 1},
		"tile/2/x001/x234/067":          {Level: 2, N: 1234067, Width: 256},
		"tile/entries/x001/000.p/255":   {Entries: true, N: 1000, Width: 255},
		"tile/63/x999/x999/x999/999":    {Level: 63, N: 999_999_999_999, Width: 256},
		"tile/0/x001/x000/x000/000.p/9": {N: 1_000_000_000, Width: 9},
	} {
		got, err := ParseTile(path)
		if err != nil || got != want || got.Path() != path {
			t.Errorf("%s: %+v %s %v", path, got, got.Path(), err)
		}
	}
	for _, path := range []string{
		"", "tile", "tile/0", "tile/0/", "tile/0/1", "tile/0/0000", "tile/0/x000/001", "tile/-1/000", "tile/64/000", "tile/00/000", "tile/data/000",
		"tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/001/002", "tile/0/x001/x002", "tile/0/+01", "/tile/0/000",
		"tile/0/000/", "tile/8/0/000", "tile/entries/x036/x028/x797/x018/x963/968", "tile/entries/x999/x999/x999/x999/x999/999", "tile/0/" + strings.Repeat("x999/", 20) + "999",
	} {
		if got, err := ParseTile(path); err == nil {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	var bundle []byte
	want := []string{"a", "", strings.Repeat("b", MaxEntry)}
	for _, entry := range want {
		bundle = AppendEntry(bundle, []byte(entry))
	}
	got, err := SplitEntries(bundle)
	must(t, err)
	for i := range want {
		if string(got[i]) != want[i] {
			t.Errorf("entry %d", i)
		}
	}
	for _, n := range []int{1, len(bundle) - 1, 4} {
		if _, err := SplitEntries(bundle[:n]); err == nil {
			t.Errorf("%d of %d bytes: no error", n, len(bundle))
		}
	}
}

func TestRemoval(t *testing.T) {
	t.Parallel()
	log := newTestLog(t, 1)
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	text, err := note.NewEd25519VerifierKey(testOrigin, public)
	must(t, err)
	keys, err := ParseKeys(text)
	must(t, err)
	var many []Range
	for i := range int64(900) {
		many = append(many, Range{10_000_000 + 3*i, 10_000_000 + 3*i + i%2})
	}
	for _, ranges := range [][]Range{{{0, 999}}, {{4, 4}}, {{0, 9}, {12, 12}, {20, 30}}, many} {
		r := Removal{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ranges}
		details := r.Details(ed25519.Sign(private, r.Text()))
		if len(details) > 31 {
			t.Errorf("%d details", len(details))
		}
		for key, value := range details {
			if len(key) > 64 || len(value) > 512 {
				t.Errorf("detail %s has %d bytes", key, len(value))
			}
		}
		var signed map[string]string
		encoded, err := json.Marshal(details)
		must(t, err)
		must(t, json.Unmarshal(encoded, &signed))
		read, signature, ok, err := ReadRemoval(signed)
		if err != nil || !ok || !reflect.DeepEqual(read, r) {
			t.Fatalf("%v %v: %+v", err, ok, read)
		}
		must(t, read.Verify(signature, keys))
		if read.Verify(signature, log.keys) == nil {
			t.Error("verified with another key")
		}
		read.Leaves[0].Last++
		if read.Verify(signature, keys) == nil {
			t.Error("verified with another leaf")
		}
	}
	for _, text := range []string{"", "a", "1-", "-1", "3-2", "1,,2", "1 "} {
		if got, err := ParseRanges(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	if _, _, ok, err := ReadRemoval(map[string]string{"before": "x"}); ok || err != nil {
		t.Errorf("a retention that names no leaves: %v %v", ok, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
