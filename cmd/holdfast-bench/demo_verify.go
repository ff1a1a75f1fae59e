package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// tamperedCode is the exit code of `holdfast verify` where something was changed.
const tamperedCode = 4

// verify checks the vault as a custodian would: with the device key, noted while the board was
// at hand, and no key that opens anything. The control is a copy with one byte changed.
func (d *demo) verify(ctx context.Context) error {
	pubs, err := filepath.Glob(d.path("vault/*/LOG/device.pub"))
	if err != nil || len(pubs) != 1 {
		return fmt.Errorf("%d device keys in the vault, want 1", len(pubs))
	}
	pub, err := os.ReadFile(pubs[0])
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path("device.pub"), pub, 0o600); err != nil {
		return err
	}
	said, err := d.verdict(ctx, d.path("vault"))
	if err != nil {
		return err
	}
	d.result.verified = said
	d.say("   the vault: %s", said)
	changed, what, err := d.spoil()
	if err != nil {
		return err
	}
	defer os.RemoveAll(changed)
	d.say("   one bit changed in a copy of %s", what)
	said, err = d.verdict(ctx, changed)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != tamperedCode {
		return fmt.Errorf("the changed byte was not found: %v", err)
	}
	d.say("   the copy: %s", said)
	return nil
}

// verdict runs verify and returns its state; the error is that of the program, too, where it
// ended with another exit code than 0.
func (d *demo) verdict(ctx context.Context, vault string) (string, error) {
	args := []string{"verify", vault, "--device-key", d.path("device.pub"), "--json"}
	d.say("   $ holdfast %s", d.short(args[:4]))
	out, runErr := exec.CommandContext(ctx, d.tools["holdfast"], args...).Output()
	var doc struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return "", errors.Join(runErr, fmt.Errorf("holdfast verify: %w", err))
	}
	return doc.State, runErr
}

// spoil copies the vault and changes one bit in the middle of its largest segment.
func (d *demo) spoil() (dir, what string, err error) {
	dir = d.path("changed")
	if err := os.CopyFS(dir, os.DirFS(d.path("vault"))); err != nil {
		return "", "", err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*", "[FG]*", "T*.age"))
	if err != nil || len(names) == 0 {
		return dir, "", errors.New("the vault has no segment")
	}
	size := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	largest := slices.MaxFunc(names, func(a, b string) int { return int(size(a) - size(b)) })
	data, err := os.ReadFile(largest)
	if err != nil || len(data) == 0 {
		return dir, "", errors.Join(err, errors.New("the largest segment is empty"))
	}
	data[len(data)/2] ^= 1
	what = filepath.Join(filepath.Base(filepath.Dir(largest)), filepath.Base(largest))
	return dir, what, os.WriteFile(largest, data, 0o600)
}
