package tollgate_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestVerifyAuditProof(t *testing.T) {
	t.Parallel()
	const origin = "tollgate.example/audit"
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (list []tlog.Hash, err error) {
		for _, index := range indexes {
			list = append(list, stored[index])
		}
		return list, nil
	})
	var leaves [][]byte
	signed := map[int64][]byte{}
	for i := range int64(9) {
		leaf := auditlog.Leaf{
			ID: fmt.Sprint("event-", i), Time: time.Date(2026, 3, 1, 12, 0, int(i), 0, time.UTC), Action: "order.cancel", Outcome: "success",
			Details: map[string]string{"a": "b"}, Salt: []byte("0123456789abcdef"),
		}
		leaves = append(leaves, leaf.Bytes())
		hashes, err := tlog.StoredHashes(i, leaves[i], read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		root, err := tlog.TreeHash(i+1, read)
		if err != nil {
			t.Fatal(err)
		}
		if signed[i+1], err = note.Sign(&note.Note{Text: auditlog.Checkpoint{Origin: origin, Size: i + 1, Root: root}.Text()}, signer); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := tollgate.ParseAuditLogKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := tlog.ProveRecord(9, 4, read)
	if err != nil {
		t.Fatal(err)
	}
	proof := auditlog.Proof{Leaf: leaves[4], Index: 4, Hashes: hashes, Checkpoint: signed[9]}
	event, err := keys.VerifyProof(proof.Format())
	if err != nil || event.ID != "event-4" || event.Index != 4 || event.Checkpoint.Size != 9 || event.Action != "order.cancel" || event.Details["a"] != "b" {
		t.Errorf("%+v %v", event, err)
	}
	if _, err := keys.VerifyProof([]byte(strings.Replace(string(proof.Format()), "\nindex 4", "\nindex 5", 1))); err == nil {
		t.Error("another index is proven")
	}
	if _, err := (tollgate.AuditLogKeys{}).VerifyProof(proof.Format()); err == nil {
		t.Error("proven without a key")
	}
	if _, err := keys.VerifyProof(nil); err == nil {
		t.Error("nothing is proven")
	}

	earlier, err := keys.VerifyCheckpoint(signed[3])
	if err != nil {
		t.Fatal(err)
	}
	later, err := keys.VerifyCheckpoint(signed[9])
	if err != nil {
		t.Fatal(err)
	}
	tree, err := tlog.ProveTree(9, 3, read)
	if err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	for _, h := range tree {
		list = append(list, h[:])
	}
	if err := tollgate.VerifyConsistency(earlier, later, list); err != nil {
		t.Error(err)
	}
	forged := later
	forged.Root[0] ^= 1
	for name, err := range map[string]error{
		"another root": tollgate.VerifyConsistency(earlier, forged, list), "turned around": tollgate.VerifyConsistency(later, earlier, list),
		"no proof": tollgate.VerifyConsistency(earlier, later, nil), "a short hash": tollgate.VerifyConsistency(earlier, later, [][]byte{{1}}),
		"another log": tollgate.VerifyConsistency(earlier, tollgate.AuditCheckpoint{Origin: "other", Size: later.Size, Root: later.Root}, list),
	} {
		if err == nil {
			t.Errorf("%s: consistent", name)
		}
	}
}

func ExampleAuditLogKeys_VerifyProof() {
	keys, err := tollgate.ParseAuditLogKeys(os.Getenv("AUDIT_KEY")) // as GET /v1/audit/keys gives it
	if err != nil {
		fmt.Println("not a key")
		return
	}
	proof, err := os.ReadFile("event.tlog-proof")
	if err != nil {
		return
	}
	event, err := keys.VerifyProof(proof)
	if err != nil {
		fmt.Println("not proven:", err)
		return
	}
	fmt.Println(event.Username, event.Action, event.Resource, event.Time)
	// Output: not a key
}
