package vault_test

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"holdfast/storage/vault"
)

// tree makes a file system of names; one that ends in a slash is a folder, one with a | is a
// pipe.
func tree(names ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for _, n := range names {
		switch {
		case strings.HasSuffix(n, "/"):
			m[strings.TrimSuffix(n, "/")] = &fstest.MapFile{Mode: fs.ModeDir | 0o700}
		case strings.Contains(n, "|"):
			m[strings.Replace(n, "|", "", 1)] = &fstest.MapFile{Data: []byte(devicePub), Mode: fs.ModeNamedPipe | 0o600}
		default:
			m[n] = &fstest.MapFile{Data: []byte(n), Mode: 0o600}
		}
	}
	return m
}

func TestFindDevices(t *testing.T) {
	pub := &fstest.MapFile{Data: []byte(devicePub + "more"), Mode: 0o600}
	with := func(m fstest.MapFS, names ...string) fstest.MapFS {
		for _, n := range names {
			m[n] = pub
		}
		return m
	}
	line := strings.TrimSpace(devicePub)
	for _, tt := range []struct {
		name string
		fsys fstest.MapFS
		want []vault.Device
	}{
		{"a vault", with(tree("README"), device+"/LOG/device.pub"), []vault.Device{{ID: device, Dir: device, Pub: line}}},
		{"two devices and other things", with(tree("ffffffff/LOG/", "lost+found/", "00000000", "0A1B2C3D/LOG/", "abc/"), device+"/LOG/device.pub"),
			[]vault.Device{{ID: device, Dir: device, Pub: line}, {ID: "ffffffff", Dir: "ffffffff"}}},
		{"a device's folder", with(tree("F00000001/"), "LOG/device.pub"), []vault.Device{{ID: device, Dir: ".", Pub: line}}},
		{"a device's folder without its key", tree("LOG/", "F00000001/"), []vault.Device{{ID: "base", Dir: "."}}},
		{"a key that is a pipe", tree("|LOG/device.pub"), []vault.Device{{ID: "base", Dir: "."}}},
		{"a device's folder with another key", tree("LOG/device.pub"), []vault.Device{{ID: "base", Dir: ".", Pub: "LOG/device.pub"}}},
		{"a folder without LOG", tree(device + "/F00000001/"), []vault.Device{{ID: device, Dir: device}}},
		{"LOG is a file", tree("LOG"), nil},
		{"empty", tree(), nil},
		{"something else", tree("DCIM/1.jpg", "a.txt"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := vault.FindDevices(tt.fsys, "base")
			if (tt.want == nil) != errors.Is(err, vault.ErrNotVault) || tt.want != nil && err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	if _, err := vault.FindDevices(tree("x"), ""); !errors.Is(err, vault.ErrNotVault) {
		t.Error(err)
	}
}

// sum writes a record in short: state, keys, segments, strange names.
func sum(r vault.Record) string {
	s := fmt.Sprintf("%s %s", r.ID, r.State)
	if len(r.Keys) > 0 {
		s += " keys " + strings.Join(r.Keys, ",")
	}
	for _, g := range r.Groups {
		s += " " + g.Streams + ":" + strings.Join(g.Keys, ",")
	}
	for _, g := range r.Segments {
		s += fmt.Sprintf(" %c%d=%s", g.Stream, g.Number, g.State)
		if g.Other != "" {
			s += "(" + g.File + "," + g.Other + ")"
		}
	}
	if len(r.Strange) > 0 {
		s += " strange " + strings.Join(r.Strange, ",")
	}
	return s
}

func TestDeviceRead(t *testing.T) {
	in := func(rec string, names ...string) (all []string) {
		all = []string{rec + "/flight.key.age", rec + "/flight.pub"}
		for _, n := range names {
			all = append(all, rec+"/"+n)
		}
		return all
	}
	for _, tt := range []struct {
		name  string
		names []string
		inUse bool
		want  []string
	}{
		{name: "nothing", names: []string{"LOG/"}},
		{name: "clean", names: in("F00000001", "T000001.age", "T000002.age"), want: []string{"F00000001 clean keys flight.key.age T1=clean T2=clean"}},
		{name: "cut", names: in("F00000001", "T000001.age", "T000002.open.age"), want: []string{"F00000001 cut keys flight.key.age T1=clean T2=cut"}},
		{name: "in use", inUse: true, names: slices.Concat(in("G00000001", "T000001.open.age"), in("F00000002", "T000001.open.age"), in("G00000003", "T000001.age"),
			in("F00000004", "T000001.open.age"), in("G00000005", "T000001.age"), in("G00000006", "T000001.age"), in("G00000007", "T000001.age", "T000002.open.age")),
			want: []string{"G00000001 cut keys flight.key.age T1=cut", "F00000002 open keys flight.key.age T1=open", "G00000003 clean keys flight.key.age T1=clean",
				"F00000004 open keys flight.key.age T1=open", "G00000005 clean keys flight.key.age T1=clean", "G00000006 clean keys flight.key.age T1=clean",
				"G00000007 open keys flight.key.age T1=clean T2=open"}},
		{name: "a number in the row is missing", names: in("F00000001", "T000001.age", "T000004.age"),
			want: []string{"F00000001 missing keys flight.key.age T1=clean T2=missing T3=missing T4=clean"}},
		{name: "the first is missing", names: in("F00000001", "T000002.age"), want: []string{"F00000001 missing keys flight.key.age T1=missing T2=clean"}},
		{name: "records are missing, but not the oldest", names: slices.Concat(in("F00000003", "T000001.age"), in("G00000006", "T000001.age")),
			want: []string{"F00000003 clean keys flight.key.age T1=clean", "?00000004 missing", "?00000005 missing", "G00000006 clean keys flight.key.age T1=clean"}},
		{name: "open and closed", names: in("F00000001", "T000001.age", "T000001.open.age"),
			want: []string{"F00000001 clean keys flight.key.age T1=clean(T000001.age,T000001.open.age)"}},
		{name: "open and half closed", names: in("F00000001", "T000001.age.tmp", "T000001.open.age"),
			want: []string{"F00000001 cut keys flight.key.age T1=cut(T000001.open.age,T000001.age.tmp)"}},
		{name: "all three forms", names: in("F00000001", "T000001.age.tmp", "T000001.open.age", "T000001.age"),
			want: []string{"F00000001 clean keys flight.key.age T1=clean(T000001.age,T000001.open.age)"}},
		{name: "half closed alone", names: in("F00000001", "T000001.age.tmp"), want: []string{"F00000001 cut keys flight.key.age T1=cut"}},
		{name: "streams in their order", names: in("F00000001", "X000001.age", "A000001.age", "P000001.age", "V000002.age", "V000001.age", "T000001.age"),
			want: []string{"F00000001 clean keys flight.key.age T1=clean V1=clean V2=clean P1=clean A1=clean X1=clean"}},
		{name: "parallel keys in their order", names: in("F00000001", "flight.key.10.age", "flight.key.2.age", "T000001.age"),
			want: []string{"F00000001 clean keys flight.key.age,flight.key.2.age,flight.key.10.age T1=clean"}},
		{name: "keys of groups", names: in("F00000001", "flight.PV.key.2.age", "flight.PV.key.age", "flight.PV.pub", "flight.A.pub", "flight.A.key.age", "T000001.age", "V000001.age"),
			want: []string{"F00000001 clean keys flight.key.age A:flight.A.key.age PV:flight.PV.key.age,flight.PV.key.2.age T1=clean V1=clean"}},
		{name: "the key of a group is gone", names: in("F00000001", "flight.V.pub", "T000001.age", "V000001.age"), want: []string{"F00000001 missing keys flight.key.age V: T1=clean V1=clean"}},
		{name: "the key of a group without segments is gone", names: in("F00000001", "flight.V.pub", "T000001.age"), want: []string{"F00000001 clean keys flight.key.age V: T1=clean"}},
		{name: "groups that are none", names: in("F00000001", "flight.VP.pub", "flight.T.key.age", "T000001.age"),
			want: []string{"F00000001 clean keys flight.key.age T1=clean strange flight.T.key.age,flight.VP.pub"}},
		{name: "a group and nothing else", names: []string{"F00000001/flight.V.key.age", "F00000001/V000001.age"}, want: []string{"F00000001 missing V:flight.V.key.age V1=clean"}},
		{name: "no key", names: []string{"F00000001/T000001.age"}, want: []string{"F00000001 missing T1=clean"}},
		{name: "begun only", names: in("F00000001"), want: []string{"F00000001 cut keys flight.key.age"}},
		{name: "begun only, in use", inUse: true, names: in("F00000001"), want: []string{"F00000001 open keys flight.key.age"}},
		{name: "empty folder", names: []string{"F00000001/"}, want: []string{"F00000001 cut"}},
		{name: "strange things", names: append(in("F00000001", "T000001.age", "T1.age", "notes.txt", "T000002.age/x", "|T000003.age", "|flight.key.2.age", "flight.key.3.age/"),
			"F00000002", "F3/", "X00000001/", "README.txt"),
			want: []string{"F00000001 clean keys flight.key.age T1=clean strange T000002.age,T000003.age,T1.age,flight.key.2.age,flight.key.3.age,notes.txt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, dir := range []string{".", device} {
				fsys := tree()
				for n, f := range tree(tt.names...) {
					if dir != "." {
						n = dir + "/" + n
					}
					fsys[n] = f
				}
				if dir == "." {
					fsys["LOG"] = &fstest.MapFile{Mode: fs.ModeDir | 0o700}
				} else {
					fsys[dir+"/LOG"] = &fstest.MapFile{Mode: fs.ModeDir | 0o700}
				}
				devices, err := vault.FindDevices(fsys, device)
				must(t, err)
				d := devices[0]
				for range 2 { // a second time gives the same
					must(t, d.Read(fsys, tt.inUse))
				}
				var got []string
				for _, r := range d.Records {
					got = append(got, sum(r))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("in %s:\n got  %q\n want %q", dir, got, tt.want)
				}
			}
		})
	}
}

func TestReadSizes(t *testing.T) {
	fsys := fstest.MapFS{
		"LOG":                        {Mode: fs.ModeDir | 0o700},
		"F00000001/flight.key.age":   {Data: make([]byte, 10)},
		"F00000001/T000001.age":      {Data: make([]byte, 200)},
		"F00000001/T000001.open.age": {Data: make([]byte, 3000)},
	}
	d := vault.Device{Dir: "."}
	must(t, d.Read(fsys, false))
	if r := d.Records[0]; r.Bytes != 3210 || r.Segments[0].Size != 200 || r.Dir != "F00000001" {
		t.Errorf("%+v", r)
	}
	gone := vault.Device{Dir: "gone"}
	if err := gone.Read(fsys, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is gone: %v", err)
	}
}

// TestReadGapBounded: a number far off makes no list without end.
func TestReadGapBounded(t *testing.T) {
	d := vault.Device{Dir: "."}
	must(t, d.Read(tree("F00000001/T000001.age", "F00000001/T999999.age", "F99999999/"), false))
	if n := len(d.Records); n > 1100 {
		t.Errorf("%d records", n)
	}
	if n := len(d.Records[0].Segments); n > 1100 {
		t.Errorf("%d segments", n)
	}
}
