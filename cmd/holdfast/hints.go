package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"holdfast/crypto/keys"
	"holdfast/firmware/config"
)

// loadConfig reads the holdfast.toml of a provision folder and adds a hint to what is wrong.
func loadConfig(dir string) (*config.Config, error) {
	c, err := config.Load(filepath.Join(dir, configName))
	var ce *config.Error
	if errors.As(err, &ce) {
		if near := nearest(ce.Key, ce.Known); near != "" {
			return nil, fmt.Errorf("%w; did you mean %s?", err, near)
		}
	}
	return c, err
}

// keyHint adds what to do to an error about recipients or identities. The errors of package
// keys repeat nothing of the text that is at fault, so that a secret stays unsaid.
func keyHint(err error) error {
	hint := ""
	switch {
	case errors.Is(err, keys.ErrSecretKey):
		hint = "give the recipient (age1... or the line of a .pub file) and keep the secret off the board"
	case errors.Is(err, keys.ErrEncryptedKey):
		hint = "open it first: -i <(age -d FILE)"
	case errors.Is(err, keys.ErrNotIdentity):
		hint = "an identity file holds a line AGE-SECRET-KEY-..."
	case errors.Is(err, keys.ErrNoRecipient):
		hint = "a recipient is a line age1... as holdfast keygen prints it"
	case errors.Is(err, keys.ErrUnsupported):
		hint = "age keys and ssh-ed25519 keys are taken"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, hint)
}

// nearest returns the one of known that is at most three slips of the pen away from word,
// or nothing.
func nearest(word string, known []string) string {
	best, found := 4, ""
	for _, k := range known {
		if d := distance(word, k); d < best && d < len(word) {
			best, found = d, k
		}
	}
	return found
}

// distance counts the letters to insert, delete or change to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
