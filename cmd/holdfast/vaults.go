package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"holdfast/cmd/internal/cli"
	"holdfast/storage/vault"
)

// source is a vault root, one device's folder, or an archive, with its records listed.
type source struct {
	dir     string
	fsys    fs.FS
	devices []vault.Device
}

// openSource lists what is in dir. The error carries its exit code.
func openSource(dir string) (*source, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: no such folder; give the folder that holds the vault", dir)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder; give the folder that holds the vault", dir)
	}
	full, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &source{dir: dir, fsys: os.DirFS(dir)}
	s.devices, err = vault.FindDevices(s.fsys, filepath.Base(full))
	if errors.Is(err, vault.ErrNotVault) {
		return nil, fmt.Errorf("%s is not a vault: it holds no device's folder (8 hex digits) and is none", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	for i := range s.devices {
		d := &s.devices[i]
		inUse := vault.InUse(filepath.Join(dir, d.Dir))
		if err := d.Read(s.fsys, inUse); err != nil {
			return nil, fmt.Errorf("read %s: %w", dir, err)
		}
	}
	return s, nil
}

// choose keeps only the record that id names, F00000042 or 42; all of them where id is empty.
func (s *source) choose(id string) error {
	total := 0
	for i := range s.devices {
		d := &s.devices[i]
		d.Records = slices.DeleteFunc(d.Records, func(r vault.Record) bool { return !matches(r.ID, id) })
		total += len(d.Records)
	}
	switch {
	case total == 0 && id != "":
		return cli.Exit(cli.Nothing, "no record %s in %s; `holdfast list` shows what is there", id, s.dir)
	case total == 0:
		return cli.Exit(cli.Nothing, "%s holds no record yet", s.dir)
	}
	return nil
}

func matches(r vault.RecordID, id string) bool {
	if id == "" || r.String() == strings.ToUpper(id) {
		return true
	}
	n, err := strconv.Atoi(id)
	return err == nil && n == r.Number
}

// exitCode maps states to exit codes; the worst wins.
func exitCode(s vault.State) int {
	switch s {
	case vault.StateCut, vault.StateDamaged:
		return cli.Cut
	case vault.StateTampered, vault.StateMissing, vault.StateUnsigned:
		return cli.Tampered
	}
	return cli.OK
}
