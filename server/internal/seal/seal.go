// Package seal keeps secrets at rest under the master key, and derives the
// secrets that need no storing from it.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// KeySize is the size of a master key in bytes.
const KeySize = 32

// maxFile bounds what is read of a key file, in bytes.
const maxFile = 4096

// Master is the master key.
type Master struct {
	aead cipher.AEAD
	key  []byte
}

// ErrWrongKey says that something was sealed under another master key, or
// tampered with.
var ErrWrongKey = errors.New("not sealed under this master key")

// AfterLoss is what to do when the master key is gone.
const AfterLoss = "if it is lost for good, delete the rows of the tables signing_keys, second_factors and audit_keys and run " +
	"tollgate recover audit-log start-over, which invalidates the access tokens issued so far, turns every second factor off, " +
	"and begins a new tree of the audit log"

// New makes a Master of 32 bytes.
func New(key []byte) (*Master, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("the master key must have %d bytes, this one has %d", KeySize, len(key))
	}
	sealing, err := hkdf.Key(sha256.New, key, nil, "tollgate seal v1", KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Master{aead: aead, key: key}, nil
}

// Parse reads a key from text: 32 bytes in base64.
func Parse(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(text); err == nil && len(key) == KeySize {
			return key, nil
		}
	}
	return nil, errors.New("the master key must be 32 random bytes in base64; make one with: openssl rand -base64 32")
}

// File reads the key that a file holds, and makes the file, readable by its
// owner only, when there is none. Any number of processes may do so at once:
// they all get the same key. A file that others can get at is refused.
func File(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, KeySize)
		rand.Read(key)
		if err := makeFile(path, key); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make master key file: %w", err)
		}
		file, err = os.Open(path) // just made, by this process or a faster one
	}
	if err != nil {
		return nil, fmt.Errorf("read master key file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read master key file: %w", err)
	}
	if err := checkOwner(path, info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read master key file: %w", err)
	}
	key, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("master key file %s: %w", path, err)
	}
	return key, nil
}

// makeFile creates the file with its whole content, so that no process reads half
// a key, not after a crash either: it is written under another name and linked to
// its own, which fails with ErrExist when there is a file already.
func makeFile(path string, key []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".master-key-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil {
		return err
	}
	// What is sealed under the key must not outlive it: the name is to be on
	// the disk too, where folders can be synced.
	if folder, err := os.Open(filepath.Dir(path)); err == nil {
		folder.Sync() //nolint:errcheck // not every file system can
		folder.Close()
	}
	return nil
}

// Seal encrypts plain with AES-256-GCM. The context, such as the row's id, must
// be the same at Open, so that sealed values cannot be swapped.
func (m *Master) Seal(plain []byte, context string) []byte {
	nonce := make([]byte, m.aead.NonceSize())
	rand.Read(nonce)
	return m.aead.Seal(nonce, nonce, plain, []byte(context))
}

// Open decrypts what Seal made; ErrWrongKey when it cannot.
func (m *Master) Open(sealed []byte, context string) ([]byte, error) {
	n := m.aead.NonceSize()
	if len(sealed) < n {
		return nil, ErrWrongKey
	}
	plain, err := m.aead.Open(nil, sealed[:n], sealed[n:], []byte(context))
	if err != nil {
		return nil, ErrWrongKey
	}
	return plain, nil
}

// Derive returns a 32-byte secret for one purpose, the same on every instance.
func (m *Master) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, m.key, nil, "tollgate "+purpose, 32)
	if err != nil {
		panic(err) // only for lengths that SHA-256 cannot give
	}
	return key
}
