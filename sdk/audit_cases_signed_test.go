package tollgate_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// checkpointCases are about the text that is signed.
func checkpointCases(t *testing.T, tree *auditTree) (list []auditCase) {
	t.Helper()
	leaf := auditLeaf(0).Bytes()
	root := tlog.RecordHash(leaf)
	signed := func(text string, signers ...auditSigner) string {
		p := tree.proof(t, 0, 1)
		p.Checkpoint = []byte(signedNote(text, signers...))
		return string(p.Format())
	}
	text := checkpointText(1, root)
	encoded := base64.StdEncoding.EncodeToString(root[:])
	for _, c := range [][2]string{
		{"an extension", text + "more\n"}, {"more after an empty line", text + "\nmore\n"}, {"an empty line before", "\n" + text}, {"no root", auditOrigin + "\n1\n"},
		{"no origin", "\n1\n" + encoded + "\n"}, {"the origin of another log", strings.Replace(text, auditOrigin, "other.example/audit", 1)},
		{"an origin with a space", strings.Replace(text, auditOrigin, auditOrigin+" ", 1)}, {"nothing but a line", "\n"},
		{"no events", checkpointText(0, root)}, {"a size with a leading zero", checkpointText("01", root)}, {"a size with a sign", checkpointText("+1", root)},
		{"a size below 0", checkpointText("-1", root)}, {"a size with a space", checkpointText("1 ", root)}, {"a size in other digits", checkpointText("١", root)},
		{"a size with an underscore", checkpointText("0_1", root)}, {"a size as a decimal", checkpointText("1.0", root)}, {"an empty size", checkpointText("", root)},
		{"a size of 2^64 and 1", checkpointText("18446744073709551617", root)}, {"a root of 31 bytes", strings.Replace(text, encoded, base64.StdEncoding.EncodeToString(root[:31]), 1)},
		{"a root without padding", strings.Replace(text, "=\n", "\n", 1)}, {"a root with other last bits", strings.Replace(text, encoded, encoded[:42]+string(encoded[42]+1)+"=", 1)},
		{"a root with a carriage return", strings.Replace(text, "=\n", "=\r\n", 1)}, {"a root with a space", strings.Replace(text, "=\n", "= \n", 1)},
		{"a character of control", strings.Replace(text, auditOrigin, auditOrigin+"\x01", 1)}, {"bytes that are not UTF-8", strings.Replace(text, auditOrigin, auditOrigin+"\xff", 1)},
	} {
		list = append(list, unproven("a checkpoint with "+c[0], signed(c[1])))
	}
	tooLarge := strings.Replace(deepProof(1<<62), fmt.Sprint(int64(1)<<62), fmt.Sprint(int64(1)<<62+1), 1)
	at := strings.Index(tooLarge, "\n\n") + 2
	body, _, _ := strings.Cut(tooLarge[at:], "\n\n")
	list = append(list, unproven("more events than there may be", tooLarge[:at]+signedNote(body+"\n")))
	theirs := strings.Replace(text, auditOrigin, "other.example/audit", 1)
	p := tree.proof(t, 0, 1)
	p.Checkpoint = []byte(theirs + "\n" + signatureLine("other.example/audit", auditKey.raw(theirs)))
	list = append(list, unproven("the checkpoint of another log, signed with this one's key", string(p.Format())))
	// What no language's trimming may take away.
	marked := newAuditSigner("\ufefftollgate.example/audit", "log", 1)
	markedText := strings.Replace(text, auditOrigin, marked.name, 1)
	return append(list,
		proven("an origin with a byte order mark", signed(markedText, marked), marked.key()),
		unproven("an origin without its byte order mark", signed(text, auditKey), marked.key()),
	)
}

// signatureCases are about the lines of signatures.
func signatureCases(t *testing.T, tree *auditTree) []auditCase {
	t.Helper()
	text := tree.checkpoint(t, 7)
	lines := func(all ...string) string {
		p := tree.proof(t, 5, 7)
		p.Checkpoint = []byte(text + "\n" + strings.Join(all, ""))
		return string(p.Format())
	}
	good, raw, seen := auditKey.line(text), auditKey.raw(text), auditSeen.line(text)
	changed := func(at int, by byte) string {
		other := append([]byte{}, raw...)
		other[at] ^= by
		return signatureLine(auditOrigin, other)
	}
	encoded := base64.StdEncoding.EncodeToString(raw) // 68 bytes: one = at the end
	with := func(base64 string) string { return "— " + auditOrigin + " " + base64 + "\n" }
	last := strings.TrimSuffix(encoded, "=")
	others := func(n int) string {
		var all strings.Builder
		for i := range n {
			all.WriteString(signatureLine(fmt.Sprintf("w%d.example", i), []byte("12345")))
		}
		return all.String()
	}
	long := "— w.example ${repeat AAAAAAAA 140}\n"
	return []auditCase{
		proven("the signature twice", lines(good, good)),
		proven("the signature, then a wrong one of the same key", lines(good, changed(10, 1))),
		proven("a witness first", lines(seen, good)),
		proven("a witness twice", lines(good, seen, seen)),
		unproven("a witness with other last bits", lines(good, "— w.example AAAAAAB=\n")),
		unproven("a signature with other last bits", lines(with(last[:len(last)-1]+string(last[len(last)-1]+1)+"="))),
		proven("signed with both keys", lines(good, nextKey.line(text)), auditKey.key(), nextKey.key()),
		proven("signed with the next key", lines(nextKey.line(text)), auditKey.key(), nextKey.key()),
		proven("signed also with a key that is not known", lines(good, nextKey.line(text))),
		proven("a hundred signatures", lines(good, others(99))),
		unproven("a hundred and one signatures", lines(good, others(100))),
		unproven("longer than 64 KiB, with a hundred signatures", lines(good, strings.Repeat(long, 60))),
		unproven("longer than 64 KiB, in fewer characters", lines(good, strings.Repeat("— ${repeat ä 600} AAAAAAAA\n", 60))),
		unproven("no signature", lines()),
		unproven("no signature, and no line for one", string(tree.proof(t, 5, 7).Format()[:strings.LastIndex(string(tree.proof(t, 5, 7).Format()), "\n\n")+1])),
		unproven("only a witness", lines(seen)),
		unproven("a wrong signature", lines(changed(10, 1))),
		unproven("a wrong signature, then the right one", lines(changed(10, 1), good)),
		unproven("a wrong signature of the next key", lines(good, signatureLine(auditOrigin, append(nextKey.hash(), raw[4:]...))), auditKey.key(), nextKey.key()),
		unproven("the hash of another key", lines(changed(0, 1))),
		unproven("another key under the log's name", lines(otherKey.line(text))),
		unproven("another key under the log's name and hash", lines(signatureLine(auditOrigin, append(auditKey.hash(), otherKey.raw(text)[4:]...)))),
		unproven("the name of another", lines(signatureLine("other.example/audit", raw))),
		unproven("signed by another log only", lines(otherLog.line(text)), auditKey.key(), otherLog.key()),
		unproven("a signature of another text", lines(auditKey.line(text+"\n"))),
		unproven("a signature of 63 bytes", lines(signatureLine(auditOrigin, raw[:67]))),
		unproven("a signature of 65 bytes", lines(signatureLine(auditOrigin, append(append([]byte{}, raw...), 0)))),
		unproven("a signature with a carriage return", lines(with(encoded+"\r"))),
		unproven("a signature with a space", lines(with(encoded+" "))),
		unproven("a signature after two spaces", lines(with(" "+encoded))),
		unproven("a signature without padding", lines(with(last))),
		unproven("a signature with more padding", lines(with(encoded+"="))),
		unproven("a signature in two parts of base64", lines(with("AA=="+encoded))),
		unproven("a signature in the alphabet of URLs", lines(good, with("-_-_-_-_"))),
		unproven("an empty signature", lines(good, with(""))),
		unproven("a signature that is only a hash", lines(good, signatureLine("w.example", []byte("1234")))),
		unproven("a signature without a name", lines(good, "— "+encoded+"\n")),
		unproven("a signature of an empty name", lines(good, "—  "+encoded+"\n")),
		unproven("a signature of a name with a plus", lines(good, signatureLine("w+x", raw))),
		unproven("a signature of a name with U+00A0", lines(good, signatureLine("w\u00a0x", raw))),
		unproven("a signature of a name with U+0085", lines(good, signatureLine("w\u0085x", raw))),
		unproven("a signature of a name with U+3000", lines(good, signatureLine("w\u3000x", raw))),
		proven("a signature of a name with U+200B", lines(good, signatureLine("w\u200bx", raw))),
		unproven("a signature of a name with U+0001", lines(good, signatureLine("w\x01x", raw))),
		unproven("a last line without its end", lines(good, strings.TrimSuffix(seen, "\n"))),
		unproven("a signature of a name with a tab", lines(good, signatureLine("w\tx", raw))),
		unproven("a signature of a name that is not UTF-8", lines(good, signatureLine("w\xff", raw))),
		unproven("a signature of a name with half a character", lines(good, signatureLine("w\xed\xa0\x80", raw))),
		unproven("a signature after a hyphen", lines("-"+strings.TrimPrefix(good, "—"))),
		unproven("a signature after a space that is not one", lines(strings.Replace(good, "— ", "—\u00a0", 1))),
		unproven("a signature that does not end its line", lines(strings.TrimSuffix(good, "\n"))),
		unproven("a line that is not a signature", lines(good, "hello\n")),
		unproven("an empty line between signatures", lines(good, "\n", good)),
		unproven("a null after the signatures", lines(good, "\x00")),
	}
}

// keyCases are about the keys.
func keyCases(t *testing.T, tree *auditTree) []auditCase {
	t.Helper()
	good := string(tree.proof(t, 5, 7).Format())
	key, hash := auditKey.key(), hex.EncodeToString(auditKey.hash())
	name := func(name string) string { return newAuditSigner(name, "log", 1).key() }
	wrong := func(what string, keys ...string) auditCase { return unproven("a key "+what, good, keys...) }
	none := func(what string, keys ...string) auditCase {
		return auditCase{Name: "a key " + what, Keys: keys, OnlyKeys: true}
	}
	text := tree.checkpoint(t, 7)
	as := func(hash []byte) string { // the log's signature as that of a key of another hash
		p := tree.proof(t, 5, 7)
		p.Checkpoint = []byte(text + "\n" + signatureLine(auditOrigin, append(slices.Clone(hash), auditKey.raw(text)[4:]...)))
		return string(p.Format())
	}
	second := keyText(auditOrigin, append([]byte{2}, auditKey.public()[1:]...))
	sized := func(n int) string {
		public := append(auditKey.public(), 0)[:n]
		return keyText(auditOrigin, public)
	}
	noKey := unproven("no key", good)
	noKey.Keys = []string{}
	return []auditCase{
		proven("a key with spaces around", good, " \t"+key+"\u3000\r\n"),
		proven("a key whose hash is in capitals", good, strings.Replace(key, hash, strings.ToUpper(hash), 1)),
		noKey,
		wrong("twice", key, key),
		none("that is empty", ""),
		none("without a hash", auditOrigin+"+"+base64.StdEncoding.EncodeToString(auditKey.public())),
		none("that is only a name", auditOrigin),
		none("with the hash of another", strings.Replace(key, hash, hex.EncodeToString(otherKey.hash()), 1)),
		none("with a hash of 7 digits", strings.Replace(key, hash, hash[:7], 1)),
		none("with a hash of 9 digits", strings.Replace(key, hash, "0"+hash, 1)),
		none("with a hash that is not a number", strings.Replace(key, hash, "0x"+hash[:6], 1)),
		none("of 31 bytes", sized(32)),
		none("of 33 bytes", sized(34)),
		none("that is nothing", keyText(auditOrigin, []byte{})),
		none("of a witness", auditSeen.key()),
		none("of another algorithm", second),
		unproven("signed as by another algorithm", as(keyHash(auditOrigin, append([]byte{2}, auditKey.public()[1:]...))), second),
		unproven("signed as by the wrong hash of the key", as(otherKey.hash()), strings.Replace(key, hash, hex.EncodeToString(otherKey.hash()), 1)),
		none("without padding, or with too much", key+"="),
		none("with a line break in it", key[:len(key)-8]+"\n"+key[len(key)-8:]),
		none("with a space in it", key[:len(key)-8]+" "+key[len(key)-8:]),
		none("of an empty name", name("")),
		none("of a name with a space", name("tollgate.example audit")),
		none("of a name with U+0085", name("tollgate.example\u0085audit")),
		wrong("of another log", otherLog.key()),
		wrong("of somebody else under the log's name", otherKey.key()),
		none("and one that is none", key, "x"),
		none("of a name with U+00A0", name("tollgate.example\u00a0audit")),
		none("under another name", strings.Replace(key, auditOrigin, "other.example/audit", 1)),
	}
}

// onlyCheckpointCases are checkpoints without a proof.
func onlyCheckpointCases(t *testing.T, tree *auditTree) []auditCase {
	t.Helper()
	text := tree.checkpoint(t, 257)
	one := func(name, signed string, want any) auditCase {
		return auditCase{Name: name, Keys: keysOr(nil), Checkpoint: signed, Want: want}
	}
	root := tlog.RecordHash(nil)
	return []auditCase{
		one("a checkpoint", signedNote(text), true),
		one("a checkpoint with a witness", signedNote(text, auditKey, auditSeen), true),
		one("a checkpoint of nothing", signedNote(checkpointText(0, root)), true),
		one("a checkpoint of 2^62 events", signedNote(checkpointText(int64(1)<<62, root)), true),
		one("a checkpoint of 2^62 and 1 events", signedNote(checkpointText(int64(1)<<62+1, root)), nil),
		one("a checkpoint of 2^63 events", signedNote(checkpointText(uint64(1)<<63, root)), nil),
		one("a checkpoint of another key", signedNote(text, otherKey), nil),
		one("a checkpoint without a signature", text, nil),
		one("a checkpoint with more behind it", signedNote(text)+"more\n", nil),
		one("a checkpoint of 64 KiB and more", signedNote(text)+"${repeat "+signatureLine("w.example", make([]byte, 900))+" 60}", nil),
		one("a checkpoint of less than 64 KiB", signedNote(text)+"${repeat "+signatureLine("w.example", make([]byte, 780))+" 60}", true),
	}
}
