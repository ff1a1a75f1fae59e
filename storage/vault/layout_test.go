package vault_test

import (
	"testing"

	"holdfast/storage/vault"
)

func TestRecordID(t *testing.T) {
	for s, want := range map[string]vault.RecordID{
		"F00000042": {Kind: vault.Flight, Number: 42},
		"G00000001": {Kind: vault.Ground, Number: 1},
		"F99999999": {Kind: vault.Flight, Number: 99999999},
	} {
		if got, ok := vault.ParseRecordID(s); !ok || got != want || got.String() != s {
			t.Errorf("%s = %+v (%s), %v", s, got, got, ok)
		}
	}
	for _, s := range []string{"", "F", "F00000000", "H00000001", "f00000001", "F0000001", "F000000001", "F0000000x", "F-0000001", "F+0000001", "F 0000001", "F0000_001"} {
		if got, ok := vault.ParseRecordID(s); ok {
			t.Errorf("%q parses as %+v", s, got)
		}
	}
	if s := (vault.RecordID{}).String(); s != "" {
		t.Errorf("no record is %q", s)
	}
	if vault.Flight.String() != "flight" || vault.Ground.String() != "ground" || vault.Kind('x').String() != "unknown" {
		t.Error("names of kinds")
	}
}

func TestSegmentFile(t *testing.T) {
	for s, form := range map[string]string{
		"T000001.age": "closed", "T000001.open.age": "open", "T000001.age.tmp": "tmp",
		"V999999.age": "closed", "P000002.age": "closed", "A000003.open.age": "open", "X000004.age.tmp": "tmp",
	} {
		f, ok := vault.ParseSegmentFile(s)
		if !ok || f.String() != s || f.Closed() != (form == "closed") || f.Open() != (form == "open") || f.Tmp() != (form == "tmp") {
			t.Errorf("%s = %+v, %v", s, f, ok)
		}
	}
	for _, s := range []string{"", "T", "T000001", "T000000.age", "Q000001.age", "T00001.age", "T0000001.age", "T000001.ageX", "T00000a.age", "T000001.open", "T000001.tmp", "T000001.open.age.tmp", "t000001.age", "T-00001.age"} {
		if f, ok := vault.ParseSegmentFile(s); ok {
			t.Errorf("%q parses as %+v", s, f)
		}
	}
}

func TestOtherNames(t *testing.T) {
	for s, want := range map[string]bool{
		"flight.key.age": true, "flight.key.2.age": true, "flight.key.99.age": true, "flight.key.1.age": false, "flight.key.100.age": false,
		"flight.key.x.age": false, "flight.key..age": false, "flight.key.2": false, "flight.pub": false, "flight.key.-2.age": false, "": false,
	} {
		if vault.IsFlightKeyFile(s) != want {
			t.Errorf("IsFlightKeyFile(%q) = %v", s, !want)
		}
	}
	for s, want := range map[string]bool{"0a1b2c3d": true, "0A1b2c3d": false, "0a1b2c3": false, "0a1b2c3d4": false, "0a1b2cxd": false, "": false} {
		if vault.IsDeviceID(s) != want {
			t.Errorf("IsDeviceID(%q) = %v", s, !want)
		}
	}
}

func TestStateWorse(t *testing.T) {
	order := []vault.State{"", vault.StateClean, vault.StateOpen, vault.StateCut, vault.StateDamaged, vault.StateUnsigned, vault.StateMissing, vault.StateTampered}
	for i, a := range order {
		for k, b := range order {
			if got, want := a.Worse(b), order[max(i, k)]; got != want {
				t.Errorf("%q.Worse(%q) = %q, want %q", a, b, got, want)
			}
		}
	}
}
