package main

import (
	"context"
	"slices"

	"holdfast/cmd/internal/cli"
	"holdfast/crypto/custody"
	"holdfast/storage/vault"
)

// checked is what verification says of the records that are about to be opened.
type checked struct {
	reports []*custody.Report                           // without their records
	records map[string]map[string]*custody.RecordReport // by device's folder and record
	absent  map[string][]*custody.RecordReport          // that the log names and no folder holds
}

// verifyFirst verifies each device of src, of the records only those that id names.
func verifyFirst(ctx context.Context, src *source, id string) (*checked, error) {
	c := &checked{records: map[string]map[string]*custody.RecordReport{}, absent: map[string][]*custody.RecordReport{}}
	bar := progress(src, "verifying")
	defer bar.Finish()
	for _, d := range src.devices {
		all := map[string]*custody.RecordReport{}
		there := map[string]bool{}
		for _, r := range d.Records {
			there[r.ID.String()] = true
		}
		report, err := src.verify(d, custody.Options{
			AcceptRecord: func(record string) bool {
				r, ok := vault.ParseRecordID(record)
				return ok && matches(r, id)
			},
			Each: func(r *custody.RecordReport) {
				all[r.Record] = r
				if !there[r.Record] {
					c.absent[d.Dir] = append(c.absent[d.Dir], r)
				}
			},
			Progress: func(n int64) { bar.Add(n, func() string { return "verifying" }) },
			Stop:     ctx.Err,
		})
		if err != nil {
			return nil, err
		}
		c.records[d.Dir] = all
		c.reports = append(c.reports, report)
	}
	return c, nil
}

// record implements flight.Opener's Custody.
func (c *checked) record(d vault.Device, record string) *custody.RecordReport {
	return c.records[d.Dir][record]
}

// undone tells a folder of a record that was begun and taken back: it is none.
func (c *checked) undone(d vault.Device, record string) bool {
	return slices.ContainsFunc(c.reports, func(r *custody.Report) bool { return r.Device == d.ID && slices.Contains(r.Undone, record) })
}

// empty tells that there is nothing to say but that there is nothing: no log names a record, or
// there is none.
func (c *checked) empty() bool {
	logged := slices.ContainsFunc(c.reports, func(r *custody.Report) bool { return r.Leaves > 0 })
	return len(c.absent) == 0 && (!logged || exitCode(c.state()) == cli.OK)
}

// state is the worst that verification has found.
func (c *checked) state() vault.State {
	worst := custody.VerdictClean
	for _, r := range c.reports {
		worst = worst.Worse(r.State)
	}
	return vault.State(worst)
}

// missing returns rows for the records that the log names and no folder holds.
func (c *checked) missing(d vault.Device) (rows []openedRecord) {
	for _, r := range c.absent[d.Dir] {
		id, _ := vault.ParseRecordID(r.Record)
		row := openedRecord{Device: d.ID, ID: r.Record, Kind: id.Kind.String(), State: vault.State(r.State), Error: "it is not there"}
		if len(r.Findings) > 0 {
			row.Error = r.Findings[0].Text
		}
		rows = append(rows, row)
	}
	return rows
}
