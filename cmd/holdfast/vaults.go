package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"holdfast/cmd/internal/cli"
	"holdfast/crypto/custody"
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
	s, err := findDevices(dir)
	if err != nil {
		return nil, err
	}
	for i := range s.devices {
		d := &s.devices[i]
		inUse := vault.InUse(filepath.Join(dir, d.Dir))
		if err := d.Read(s.fsys, inUse); err != nil {
			return nil, fmt.Errorf("read %s: %w", dir, err)
		}
		s.excuse(d)
	}
	return s, nil
}

// excuse drops the numbers that look missing where the log says that their records were deleted
// or taken back. It believes the log as it stands: a listing proves nothing.
func (s *source) excuse(d *vault.Device) {
	skipped := func(r vault.Record) bool {
		return r.State == vault.StateMissing && r.ID.Kind != vault.Flight && r.ID.Kind != vault.Ground
	}
	if !slices.ContainsFunc(d.Records, skipped) {
		return
	}
	gone := map[int]bool{}
	f, err := s.fsys.Open(path.Join(d.Dir, "LOG", "log.bin"))
	if err != nil {
		return
	}
	defer f.Close()
	for r := custody.NewReader(f); ; {
		l, err := r.Next()
		if err != nil {
			break
		}
		if l.Kind != custody.KindLost {
			continue
		}
		e, _ := l.Entry()
		if x, ok := e.(*custody.Lost); ok && x.Segment == "" {
			id, _ := vault.ParseRecordID(x.Record)
			gone[id.Number] = true
		}
	}
	d.Records = slices.DeleteFunc(d.Records, func(r vault.Record) bool { return skipped(r) && gone[r.ID.Number] })
}

// findDevices finds the devices' folders in dir and reads nothing else.
func findDevices(dir string) (*source, error) {
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
		if holdsRecords(s.fsys) {
			return nil, fmt.Errorf("%s holds records and no folder LOG: half of a copy? Copy the device's whole folder", dir)
		}
		return nil, fmt.Errorf("%s is not a vault: it holds no device's folder (8 hex digits) and is none", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	return s, s.distinct()
}

// holdsRecords tells the inside of a device's folder that lacks its log.
func holdsRecords(fsys fs.FS) bool {
	entries, _ := fs.ReadDir(fsys, ".")
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		_, ok := vault.ParseRecordID(e.Name())
		return ok && e.IsDir()
	})
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
