package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// defaultProfile is the profile when none was chosen.
const defaultProfile = "default"

// maxProfile bounds a profile's file, in bytes.
const maxProfile = 64 << 10

// profile is a session at one server, as it is kept between commands. Its tokens are
// for that URL alone.
type profile struct {
	URL          string    `json:"url"`
	AllowHTTP    bool      `json:"allowHttp,omitempty"`
	Username     string    `json:"username"`
	UserID       string    `json:"userId"`
	SessionID    string    `json:"sessionId"`
	AccessToken  string    `json:"accessToken,omitempty"`
	RefreshToken string    `json:"refreshToken,omitempty"`
	ExpiresAt    time.Time `json:"expiresAt"` // of the access token

	// Refreshing is set while a refresh is under way. When it is found set, the answer
	// was lost: the refresh token may be spent, and presenting it again would be
	// taken for a theft.
	Refreshing bool `json:"refreshing,omitempty"`
}

// store is the folder that profiles are kept in, NAME.json each.
type store struct{ dir string }

// newStore is the folder of this user: tollgate in the system's folder for
// configuration, $XDG_CONFIG_HOME or ~/.config on Linux.
func newStore() store {
	base, err := os.UserConfigDir()
	if err != nil { // only matters to who needs a profile
		return store{} // ready says so
	}
	return store{filepath.Join(base, "tollgate")}
}

// ready checks the folder; with create it makes it.
func (s store) ready(create bool) error {
	if s.dir == "" {
		return errors.New("there is no place for a sign-in, because neither HOME nor XDG_CONFIG_HOME is set; set one, or call with TOLLGATE_API_KEY")
	}
	if create {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
	}
	info, err := os.Lstat(s.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder; it is where tokens are kept: remove it", s.dir)
	}
	return private(s.dir, info, "700")
}

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// path is a file of a profile.
func (s store) path(name, suffix string) (string, error) {
	if !profileName.MatchString(name) {
		return "", fmt.Errorf("the profile's name %q must be up to 64 letters, digits, \".\", \"_\" and \"-\"", name)
	}
	return filepath.Join(s.dir, name+suffix), nil
}

// read is a profile. The error has fs.ErrNotExist when there is none.
func (s store) read(name string) (profile, error) {
	path, err := s.path(name, ".json")
	if err != nil {
		return profile{}, err
	}
	if err := s.ready(false); err != nil {
		return profile{}, err
	}
	content, err := readPrivate(path, maxProfile)
	if errors.Is(err, fs.ErrNotExist) {
		return profile{}, fmt.Errorf("there is no profile %q; create it: tollgate login NAME --profile %s%w", name, name, missing{})
	} else if err != nil {
		return profile{}, err
	}
	var p profile
	if err := json.Unmarshal(content, &p); err != nil || p.URL == "" {
		return profile{}, fmt.Errorf("%s is damaged; remove it and sign in again: tollgate login NAME --profile %s", path, name)
	}
	return p, nil
}

// missing marks an error as fs.ErrNotExist without a text.
type missing struct{}

func (missing) Error() string { return "" }

func (missing) Is(target error) bool { return target == fs.ErrNotExist }

// write replaces a profile, whole or not at all.
func (s store) write(name string, p profile) error {
	content, err := json.MarshalIndent(p, "", "  ") //nolint:gosec // the file is for the tokens, and private
	if err != nil {
		return err
	}
	path, err := s.path(name, ".json")
	if err != nil {
		return err
	}
	return s.replace(path, append(content, '\n'))
}

func (s store) replace(path string, content []byte) error {
	if err := s.ready(true); err != nil {
		return err
	}
	return save(path, content)
}

// save writes a file that only its owner may read, whole or not at all.
func save(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // it has another name by then, or failed
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// remove forgets a profile. One that is not there is no error.
func (s store) remove(name string) error {
	path, err := s.path(name, ".json")
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// names are the names of all profiles, sorted.
func (s store) names() ([]string, error) {
	if err := s.ready(false); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), ".json"); ok && profileName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// current is the profile that was chosen with "profiles use".
func (s store) current() string {
	content, err := readPrivate(filepath.Join(s.dir, "current"), maxProfile)
	if name := strings.TrimSpace(string(content)); err == nil && profileName.MatchString(name) {
		return name
	}
	return defaultProfile
}

func (s store) choose(name string) error {
	return s.replace(filepath.Join(s.dir, "current"), []byte(name+"\n"))
}
