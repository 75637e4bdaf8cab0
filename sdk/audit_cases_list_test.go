package tollgate_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// auditCases are all cases. Those that are to be refused are signed by the log wherever it
// is not the signature that they are about, so that each is refused for one reason.
func auditCases(t *testing.T) []auditCase {
	t.Helper()
	tree := newAuditTree(t)
	return slices.Concat(provenCases(t, tree), fileCases(t, tree), treeCases(t, tree), checkpointCases(t, tree),
		signatureCases(t, tree), keyCases(t, tree), leafCases(), onlyCheckpointCases(t, tree), consistencyCases(t, tree))
}

func provenCases(t *testing.T, tree *auditTree) (list []auditCase) {
	t.Helper()
	for _, size := range []int64{1, 2, 3, 255, 256, 257, 1000} {
		for _, index := range slices.Compact([]int64{0, size / 2, size - 1}) {
			if index >= size {
				continue
			}
			list = append(list, proven(fmt.Sprintf("event %d of %d", index, size), string(tree.proof(t, index, size).Format())))
		}
	}
	for _, index := range []int64{0, 128, 256} {
		p := tree.proof(t, index, 257, auditKey, auditSeen)
		list = append(list, proven(fmt.Sprintf("event %d of 257, with a witness", index), string(p.Format())))
	}
	odd := auditLeaf(0)
	odd.Resource, odd.UserAgent, odd.Reason = "</\u2028\u00e9\x7f\U0001F600", "\x00\x01\b\t\n\f\r\x1f\"\\", "ä\ufffd\ufeff"
	odd.Details = map[string]string{"\U00010000": "1", "\ue000": "2", "10": "3", "9": "4", "__proto__": "5", "": "6", "constructor": "7"}
	bare := auditLeaf(0)
	bare.Details, bare.Salt = nil, nil
	full := auditLeaf(0)
	full.Actor.APIKeyID, full.UserAgent, full.RequestID, full.RecordedBy, full.Outcome, full.Reason = "k1", "curl/8", "q1", "u2", "denied", "PERMISSION_MISSING"
	longest := auditLeaf(0)
	longest.Resource = strings.Repeat("x", 32<<10-len(longest.Bytes())+len(longest.Resource))
	return append(list,
		proven("every member", loneProof(string(full.Bytes()))),
		proven("texts of every kind", loneProof(string(odd.Bytes()))),
		proven("no details, no salt", loneProof(string(bare.Bytes()))),
		proven("a leaf of 32 KiB", unrepeated(loneProof(string(longest.Bytes())), "eHh4")),
		proven("more events than 2^53", deepProof(1<<53+2)),
		proven("as many events as there may be", deepProof(1<<62)),
	)
}

// fileCases are about the lines of the file.
func fileCases(t *testing.T, tree *auditTree) []auditCase {
	t.Helper()
	good := string(tree.proof(t, 5, 7).Format())
	swap := func(from, to string) string {
		if strings.Count(good, from) == 0 {
			t.Fatalf("nothing to replace: %q", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	lines := strings.SplitAfter(good, "\n")
	extra, index, hash, last := lines[1], lines[2], lines[3], lines[5]
	cut := func(line string) string { return strings.TrimSuffix(line, "\n") }
	list := []auditCase{
		unproven("nothing", ""),
		unproven("only the first line", lines[0]),
		unproven("another version", swap("@v1", "@v2")),
		unproven("a byte order mark first", "\ufeff"+good),
		unproven("a line before", "\n"+good),
		unproven("line breaks of two characters", strings.ReplaceAll(good, "\n", "\r\n")),
		unproven("no event in it", swap(extra, "")),
		unproven("an empty event in it", swap(extra, "extra \n")),
		unproven("an event under another name", swap("extra ", "other ")),
		unproven("an event twice", swap(extra, extra+extra)),
		unproven("an event after the index", swap(extra+index, index+extra)),
		unproven("no index", swap(index, "")),
		unproven("an index twice", swap(index, index+index)),
		unproven("an empty line too many", swap(index, index+"\n")),
		unproven("no empty line", swap("\n\n", "\n")),
		unproven("no checkpoint", good[:strings.Index(good, "\n\n")+2]),
		unproven("a hash too many", swap(last, last+hash)),
		unproven("a hash less", swap(last, "")),
		unproven("two hashes swapped", swap(lines[3]+lines[4], lines[4]+lines[3])),
		unproven("a hash of 31 bytes", swap(hash, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n")),
		unproven("bytes that are not UTF-8", swap(index, index+"\xff\n")),
		unproven("longer than 128 KiB", good+"— w ${repeat AAAAAAAA 17000}\n"),
		unproven("hashes without an end", swap(last, "${repeat "+hash+" 4000}")),
	}
	for name, line := range map[string]string{
		"a line break of two characters": cut(hash) + "\r", "a space": cut(hash) + " ", "no padding": strings.TrimSuffix(cut(hash), "="),
		"more padding": cut(hash) + "=", "other last bits": cut(hash)[:42] + string(cut(hash)[42]+1) + "=",
		"a tab": "\t" + cut(hash), "padding within": "AA==" + cut(hash)[4:],
	} {
		list = append(list, unproven("a hash with "+name, swap(hash, line+"\n")))
	}
	list = append(list, unproven("an event with a carriage return", swap(extra, cut(extra)+"\r\n")), unproven("an event with other last bits", otherBits(t)),
		unproven("an event in the alphabet of URLs", strings.NewReplacer("+", "-", "/", "_").Replace(loneProof(string(oddLeaf())))))
	for name, text := range map[string]string{
		"with a leading zero": "05", "with a sign": "+5", "below 0": "-1", "minus 0": "-0", "in hexadecimal": "0x5", "with a space": "5 ", "with two spaces": " 5", "with a carriage return": "5\r",
		"in other digits": "٥", "with an underscore": "0_5", "as a decimal": "5.0", "with an exponent": "5e0", "of 2^63": "9223372036854775808", "of 2^64 and 5": "18446744073709551621", "empty": "",
	} {
		list = append(list, unproven("an index "+name, swap(index, "index "+text+"\n")))
	}
	slices.SortStableFunc(list[23:], func(a, b auditCase) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// oddLeaf has both + and / in base64.
func oddLeaf() []byte {
	leaf := auditLeaf(0)
	leaf.Resource = "~~~~???>>>~~~~???>>>~~~~"
	return leaf.Bytes()
}

// otherBits is a proof whose event has base64 that ends in other bits, which say nothing.
func otherBits(t *testing.T) string {
	t.Helper()
	leaf := auditLeaf(0)
	for len(leaf.Bytes())%3 == 0 {
		leaf.Resource += "x"
	}
	text := base64.StdEncoding.EncodeToString(leaf.Bytes())
	at := strings.Index(text, "=") - 1
	return strings.Replace(loneProof(string(leaf.Bytes())), text, text[:at]+string(text[at]+1)+text[at+1:], 1)
}

// treeCases are about what is in the tree, and where.
func treeCases(t *testing.T, tree *auditTree) []auditCase {
	t.Helper()
	with := func(change func(leaf []byte, root *tlog.Hash, index *int64)) string {
		p := tree.proof(t, 5, 7)
		root, err := tlog.TreeHash(7, tree)
		must(t, err)
		p.Leaf = slices.Clone(p.Leaf)
		change(p.Leaf, &root, &p.Index)
		p.Checkpoint = []byte(signedNote(checkpointText(7, root)))
		return string(p.Format())
	}
	other := tree.proof(t, 5, 7)
	other.Checkpoint = []byte(signedNote(tree.checkpoint(t, 8)))
	h := func(i int) tlog.Hash { return tlog.RecordHash(tree.leaves[i]) }
	longer := with(func(_ []byte, root *tlog.Hash, _ *int64) { *root = tlog.NodeHash(h(0), *root) })
	at := strings.Index(longer, "\n\n") + 1
	first := h(0)
	longer = longer[:at] + base64.StdEncoding.EncodeToString(first[:]) + "\n" + longer[at:]
	shorter := with(func(_ []byte, root *tlog.Hash, _ *int64) { *root = tlog.NodeHash(tlog.NodeHash(h(4), h(5)), h(6)) })
	at = strings.Index(shorter, "\n\n")
	shorter = shorter[:strings.LastIndex(shorter[:at], "\n")] + shorter[at:]
	fits := func(sibling []byte) string { // a proof to a root that such a sibling leads to
		p := tree.proof(t, 0, 2)
		first := h(0)
		p.Checkpoint = []byte(signedNote(checkpointText(2, sha256.Sum256(slices.Concat([]byte{1}, first[:], sibling)))))
		other := h(1)
		return strings.Replace(string(p.Format()), base64.StdEncoding.EncodeToString(other[:]), base64.StdEncoding.EncodeToString(sibling), 1)
	}
	return []auditCase{
		proven("a root that a hash leads to", fits(make([]byte, 32))),
		unproven("a root that a hash of 31 bytes leads to", fits(make([]byte, 31))),
		unproven("a root that a hash of 33 bytes leads to", fits(make([]byte, 33))),
		unproven("a root that no hash leads to", fits(nil)),
		unproven("a path too long, to a root above the tree's", longer),
		unproven("a path too short, to a root below the tree's", shorter),
		unproven("a byte of the event is another", with(func(leaf []byte, _ *tlog.Hash, _ *int64) { leaf[strings.Index(string(leaf), "mia")]++ })),
		unproven("a bit of the root is another", with(func(_ []byte, root *tlog.Hash, _ *int64) { root[31] ^= 1 })),
		unproven("the index of the neighbor", with(func(_ []byte, _ *tlog.Hash, index *int64) { *index = 4 })),
		unproven("the index of the end", with(func(_ []byte, _ *tlog.Hash, index *int64) { *index = 7 })),
		unproven("an index beyond the end with the same path", with(func(_ []byte, _ *tlog.Hash, index *int64) { *index = 13 })),
		unproven("the index of the last with the path of another", with(func(_ []byte, _ *tlog.Hash, index *int64) { *index = 6 })),
		unproven("the checkpoint of another size", string(other.Format())),
		unproven("the root given for the event", rootAsLeaf(t, tree)),
	}
}

// rootAsLeaf claims that the two children of a root are an event: RFC 6962 §2.1 has 0 and
// 1 before what is hashed, so that they are not.
func rootAsLeaf(t *testing.T, tree *auditTree) string {
	t.Helper()
	left, right := tlog.RecordHash(tree.leaves[0]), tlog.RecordHash(tree.leaves[1])
	p := tree.proof(t, 0, 2)
	p.Leaf, p.Hashes = slices.Concat(left[:], right[:]), nil
	p.Checkpoint = []byte(signedNote(strings.Replace(tree.checkpoint(t, 2), "\n2\n", "\n1\n", 1)))
	return string(p.Format())
}

func consistencyCases(t *testing.T, tree *auditTree) (list []auditCase) {
	t.Helper()
	between := func(earlier, later int64) auditCase {
		proof, err := tlog.ProveTree(later, earlier, tree)
		must(t, err)
		c := auditCase{
			Name: fmt.Sprintf("%d continues %d", later, earlier), Keys: keysOr(nil), Want: true,
			Earlier: signedNote(tree.checkpoint(t, earlier)), Later: signedNote(tree.checkpoint(t, later)),
		}
		for _, h := range proof {
			c.Hashes = append(c.Hashes, base64.StdEncoding.EncodeToString(h[:]))
		}
		return c
	}
	for _, sizes := range [][2]int64{{1, 1}, {1, 2}, {2, 3}, {3, 255}, {128, 256}, {255, 1000}, {256, 1000}, {999, 1000}, {1000, 1000}} {
		list = append(list, between(sizes[0], sizes[1]))
	}
	old, next := tlog.RecordHash([]byte("old")), tlog.RecordHash([]byte("next"))
	list = append(list, auditCase{
		Name: "2^54 continues 2^53", Keys: keysOr(nil), Want: true, Hashes: []string{base64.StdEncoding.EncodeToString(next[:])},
		Earlier: signedNote(checkpointText(1<<53, old)), Later: signedNote(checkpointText(1<<54, tlog.NodeHash(old, next))),
	})
	wrong := func(name string, earlier, later int64, change func(*auditCase)) {
		c := between(earlier, later)
		c.Name, c.Want = name, nil
		change(&c)
		list = append(list, c)
	}
	forged := signedNote(checkpointText(7, old))
	wrong("what was, rewritten", 3, 7, func(c *auditCase) { c.Earlier = signedNote(checkpointText(3, old)) })
	wrong("what is, rewritten", 3, 7, func(c *auditCase) { c.Later = forged })
	wrong("two logs of one size", 7, 7, func(c *auditCase) { c.Later = forged })
	wrong("two logs of one size, and a hash", 7, 7, func(c *auditCase) { c.Hashes = []string{base64.StdEncoding.EncodeToString(old[:])} })
	wrong("shorter than it was", 3, 7, func(c *auditCase) { c.Earlier, c.Later = c.Later, c.Earlier })
	wrong("continues nothing", 3, 7, func(c *auditCase) { c.Earlier = signedNote(checkpointText(0, old)) })
	wrong("continues nothing, and is nothing", 1, 1, func(c *auditCase) {
		c.Earlier, c.Later = signedNote(checkpointText(0, old)), signedNote(checkpointText(0, old))
	})
	wrong("continued, and no hashes", 3, 7, func(c *auditCase) { c.Hashes = nil })
	wrong("continued, and a hash less", 3, 7, func(c *auditCase) { c.Hashes = c.Hashes[:len(c.Hashes)-1] })
	wrong("continued, and a hash too many", 3, 7, func(c *auditCase) { c.Hashes = append(c.Hashes, c.Hashes[0]) })
	above := func(size int64) string {
		root, err := tlog.TreeHash(size, tree)
		must(t, err)
		return signedNote(checkpointText(size, tlog.NodeHash(old, root)))
	}
	wrong("continued, to roots above the trees'", 3, 7, func(c *auditCase) {
		c.Earlier, c.Later = above(3), above(7)
		c.Hashes = append(c.Hashes, base64.StdEncoding.EncodeToString(old[:]))
	})
	wrong("continued, to a root below the tree's", 3, 7, func(c *auditCase) {
		root, err := tlog.TreeHash(4, tree)
		must(t, err)
		c.Later, c.Hashes = signedNote(checkpointText(7, root)), c.Hashes[:len(c.Hashes)-1]
	})
	wrong("continued from a power of two, and a hash too many", 4, 8, func(c *auditCase) { c.Hashes = append(c.Hashes, c.Hashes[0]) })
	wrong("continued, and a hash of 31 bytes", 3, 7, func(c *auditCase) { c.Hashes[0] = base64.StdEncoding.EncodeToString(old[:31]) })
	wrong("continued, to a root that a hash of 31 bytes leads to", 1, 2, func(c *auditCase) {
		first := tlog.RecordHash(tree.leaves[0])
		c.Hashes = []string{base64.StdEncoding.EncodeToString(old[:31])}
		c.Later = signedNote(checkpointText(2, sha256.Sum256(slices.Concat([]byte{1}, first[:], old[:31]))))
	})
	wrong("the same in another log", 3, 3, func(c *auditCase) {
		c.Keys = append(c.Keys, otherLog.key())
		c.Later = signedNote(strings.Replace(tree.checkpoint(t, 3), auditOrigin, otherLog.name, 1), otherLog)
	})
	return list
}
