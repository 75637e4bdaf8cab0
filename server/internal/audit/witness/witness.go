// Package witness gives the audit log's checkpoints to others: witnesses, which cosign
// what continues what they saw before (https://c2sp.org/tlog-witness), and a file. So a
// history that somebody rewrote, with the log's own key even, is seen.
package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	answerTime = 10 * time.Second
	maxAnswer  = 64 << 10 // bytes
	// maxProof is how many hashes a request may have.
	maxProof = 63
)

// ErrForked says that a witness has seen a history that the log does not continue.
var ErrForked = errors.New("the witness has seen events that this log does not have")

// Witness is somebody who cosigns checkpoints.
type Witness struct {
	url    string
	name   string
	hash   uint32
	key    ed25519.PublicKey
	client *http.Client

	size int64 // of the checkpoint that it cosigned last, as far as is known
}

// cosignatureType is that of an Ed25519 cosignature (https://c2sp.org/tlog-cosignature).
const cosignatureType = 4

// Parse reads a witness as URL#NAME+HASH+KEY: where it is asked, and the key, of
// signature type 4, by which its cosignatures are known.
func Parse(text string) (*Witness, error) {
	address, vkey, ok := strings.Cut(text, "#")
	u, err := url.Parse(address)
	if !ok || err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("must be URL#NAME+HASH+KEY, such as https://witness.example/w1#witness.example/w1+c2d8…+BA…")
	}
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("must end with the witness's key, #NAME+HASH+KEY")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != cosignatureType {
		return nil, errors.New("its key must be an Ed25519 key for cosignatures (https://c2sp.org/tlog-cosignature), of signature type 4")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	w := &Witness{
		url: strings.TrimRight(u.String(), "/") + "/add-checkpoint", name: parts[0], hash: binary.BigEndian.Uint32(sum[:]), key: key[1:],
		client: &http.Client{
			Timeout:       answerTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if parts[1] != fmt.Sprintf("%08x", w.hash) {
		return nil, fmt.Errorf("its key has the hash %08x, not %s", w.hash, parts[1])
	}
	return w, nil
}

// Name is the witness's name.
func (w *Witness) Name() string { return w.name }

// Cosign sends a signed checkpoint of a size and returns the witness's signature line.
// prove gives the proof that the tree of that size begins with an earlier one. It is
// ErrForked when the witness has cosigned what the checkpoint does not continue.
func (w *Witness) Cosign(ctx context.Context, size int64, signed []byte, prove func(earlier int64) (tlog.TreeProof, error)) (line string, err error) {
	for range 2 { // the first answer may be how far the witness is
		var proof tlog.TreeProof
		if seen := w.size; seen > size {
			w.size = 0 // it is asked again the next time
			return "", fmt.Errorf("%w: %d, this log %d", ErrForked, seen, size)
		}
		if w.size > 0 && w.size < size {
			if proof, err = prove(w.size); err != nil {
				return "", err
			}
		}
		status, body, err := w.post(ctx, request(w.size, proof, signed))
		switch {
		case err != nil:
			return "", err
		case status == http.StatusOK:
			if line, err = w.known(body, signed); err == nil {
				w.size = size
			}
			return line, err
		case status == http.StatusConflict:
			seen, err := strconv.ParseInt(strings.TrimSuffix(string(body), "\n"), 10, 64)
			if err != nil || seen < 0 || seen == w.size {
				return "", fmt.Errorf("%w: it refuses to cosign another root for %d events", ErrForked, w.size)
			}
			w.size = seen
		case status == http.StatusUnprocessableEntity:
			return "", fmt.Errorf("%w: it does not take the proof from %d events on", ErrForked, w.size)
		default:
			return "", fmt.Errorf("the witness answers with the status %d", status)
		}
	}
	return "", errors.New("the witness changes meanwhile; trying again")
}

func request(old int64, proof tlog.TreeProof, signed []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", old)
	for _, h := range proof {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteByte('\n')
	b.Write(signed)
	return b.Bytes()
}

func (w *Witness) post(ctx context.Context, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	res, err := w.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, answer, err
}

// known is the line of an answer that is this witness's signature of the checkpoint.
// Others are ignored.
func (w *Witness) known(answer, signed []byte) (string, error) {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	for line := range strings.Lines(string(answer)) {
		rest, ok := strings.CutPrefix(line, "— "+w.name+" ")
		if !ok {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(rest, "\n"))
		if err != nil || len(raw) != 4+8+ed25519.SignatureSize || binary.BigEndian.Uint32(raw) != w.hash {
			continue
		}
		at := binary.BigEndian.Uint64(raw[4:])
		if ed25519.Verify(w.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at, text), raw[12:]) {
			// In the one spelling that a signed note may have: base64 has several that are read.
			return "— " + w.name + " " + base64.StdEncoding.EncodeToString(raw) + "\n", nil
		}
	}
	return "", errors.New("the witness's answer has no signature of its key")
}
