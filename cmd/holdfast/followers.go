package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/crypto/custody"
	"holdfast/crypto/open"
	"holdfast/storage/vault"
)

// A log is pulled from the autopilot when it is disarmed, so it lies in a ground record behind
// its flight. Where one flight alone is opened, those records are looked into for it.

// maxLaterFlights is how many flights may lie between a flight and the record that holds its log:
// power that is cut right after landing puts the pull off to the next time on the ground, and
// twice is the most that is looked for.
const maxLaterFlights = 2

// followers are the ground records to look into, by the folder of the device and the flight.
type followers map[string]map[string][]vault.Record

// followers returns them for the flights that id names. It has to be asked before choose.
func (s *source) followers(id string) followers {
	f := followers{}
	if id == "" {
		return f // all are opened
	}
	for _, d := range s.devices {
		f[d.Dir] = map[string][]vault.Record{}
		for i, r := range d.Records {
			if r.ID.Kind == vault.Flight && matches(r.ID, id) {
				f[d.Dir][r.ID.String()] = grounds(d.Records[i+1:])
			}
		}
	}
	return f
}

// grounds returns the ground records up to the third flight.
func grounds(records []vault.Record) (g []vault.Record) {
	flights := 0
	for _, r := range records {
		if r.ID.Kind == vault.Flight {
			flights++
		}
		if flights > maxLaterFlights {
			return g
		}
		if r.ID.Kind == vault.Ground && len(r.Keys) > 0 && holdsLogs(r) {
			g = append(g, r)
		}
	}
	return g
}

func holdsLogs(r vault.Record) bool {
	for _, s := range r.Segments {
		if s.Stream == 'A' && s.File != "" {
			return true
		}
	}
	return false
}

// verifyAlso verifies further records, so that what is taken from them is proven. What is wrong
// with them is not the business of those that were asked for.
func (c *checked) verifyAlso(ctx context.Context, src *source, d vault.Device, also []vault.Record) error {
	want := map[string]bool{}
	for _, r := range also {
		want[r.ID.String()] = true
	}
	_, err := src.verify(d, custody.Options{
		AcceptRecord: func(record string) bool { return want[record] },
		Each: func(r *custody.RecordReport) {
			if want[r.Record] {
				c.records[d.Dir][r.Record] = r
			}
		},
		Stop: ctx.Err,
	})
	return err
}

// collectLater looks into the records behind the flights of d that were asked for. Records that
// cannot be opened are passed over.
func (f followers) collectLater(ctx context.Context, src *source, d vault.Device, opener *flight.Opener, c *checked, out string) error {
	for _, r := range d.Records {
		also := f[d.Dir][r.ID.String()]
		if len(also) == 0 {
			continue
		}
		if err := c.verifyAlso(ctx, src, d, also); err != nil {
			return err
		}
		for _, g := range also {
			err := opener.Later(d, g, r.ID, later(out, d, g))
			if errors.Is(err, open.ErrNoIdentity) || errors.Is(err, flight.ErrNoKey) || errors.Is(err, open.ErrDamaged) {
				continue
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// later is where the files of a record are put until they are delivered.
func later(out string, d vault.Device, r vault.Record) string {
	return filepath.Join(out, d.ID, ".later", r.ID.String())
}

// deliver puts the logs of d where they belong. What is not proven among them counts as such.
func (f followers) deliver(ctx context.Context, src *source, d vault.Device, opener *flight.Opener, c *checked, out string) (vault.State, error) {
	if err := f.collectLater(ctx, src, d, opener, c, out); err != nil {
		return "", err
	}
	apart, err := opener.Deliver()
	if err != nil {
		return "", err
	}
	state := vault.StateClean
	if apart > 0 {
		state = vault.StateTampered
	}
	return state, os.RemoveAll(filepath.Join(out, d.ID, ".later"))
}
