package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// desk is somebody who may read some streams.
type desk struct {
	identity age.Identity
	to       *keys.Recipients
}

// desks are those of the key groups of groupedKey.
var desks = sync.OnceValue(func() map[string]desk {
	all := map[string]desk{}
	for _, name := range []string{"A", "PV"} {
		secret, line, err := keys.GenerateIdentity(false)
		if err != nil {
			panic(err)
		}
		id, err := keys.ParseIdentity(secret)
		if err != nil {
			panic(err)
		}
		to, err := keys.ParseRecipients(strings.NewReader(line))
		if err != nil {
			panic(err)
		}
		all[name] = desk{id, to}
	}
	return all
})

// groupedKey is newKey with key groups of the autopilot's log and of photos and video.
func groupedKey() (*vault.FlightKey, error) {
	_, to := crew()
	var groups []keys.Group
	for name, d := range desks() {
		groups = append(groups, keys.Group{Streams: name, Recipients: d.to})
	}
	k, err := keys.NewFlightKey(to, groups...)
	if err != nil {
		return nil, err
	}
	salt := []byte("0123456789abcdef")
	fk := &vault.FlightKey{Public: k.Public, Salt: salt, Files: vaultFiles(k.Files), Recipients: []string{custody.Fingerprint(salt, to.Strings()[0])}}
	for _, g := range k.Groups {
		fk.Groups = append(fk.Groups, vault.KeyGroup{Streams: g.Streams, Public: g.Public, Files: vaultFiles(g.Files),
			Recipients: []string{custody.Fingerprint(salt, desks()[g.Streams].to.Strings()[0])}})
	}
	return fk, nil
}

func vaultFiles(files []keys.WrappedFile) (all []vault.KeyFile) {
	for _, f := range files {
		all = append(all, vault.KeyFile{Name: f.Name, Data: f.Data})
	}
	return all
}

// opens lists the segments, by name without suffix, that somebody opens with all wrapped keys
// that are there.
func opens(files map[string][]byte, who age.Identity) (names []string) {
	var ids []age.Identity
	for name, data := range files {
		if _, base := keys.SplitGroup(path.Base(name)); vault.IsFlightKeyFile(base) {
			if id, err := open.New(who).Flight(data); err == nil {
				ids = append(ids, id)
			}
		}
	}
	for name, data := range files {
		s, ok := vault.ParseSegmentFile(path.Base(name))
		if !ok || len(ids) == 0 {
			continue
		}
		if r, err := age.Decrypt(bytes.NewReader(data), ids...); err == nil {
			if _, err := io.Copy(io.Discard, r); err == nil || s.Open() && errors.Is(err, io.ErrUnexpectedEOF) {
				names = append(names, path.Base(name)[:7])
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// putFile gives a record a whole file of a stream beside telemetry, as far as the medium takes it.
func putFile(v *vault.Vault, m *vault.Media, stream byte, id int, data []byte) {
	b := photo(id, data)
	if stream == 'A' {
		v.PutFile(b)
		return
	}
	_ = m.Append(stream, b)
}

// TestKeyGroups: each stream opens with the identity of its group and with no other, leaf K names
// them all, and whoever has no key finds nothing wrong.
func TestKeyGroups(t *testing.T) {
	d, now := storagetest.New(1), &clock{}
	cfg := config(watch(t, d), now)
	cfg.NewKey = groupedKey
	v := mustOpen(t, cfg)
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	must(t, v.Append(&segment.Block{Data: entries(0, 10)}))
	must(t, v.Flush())
	m := v.NewMedia(watch(t, d), nil)
	for n, stream := range []byte("VVPA") {
		putFile(v, m, stream, n+1, randomBytes()[:60<<10])
	}
	must(t, m.End())
	v.Audit(line(0))
	must(t, v.Close())
	files := d.Crash(storagetest.Strict).Files()
	me, _ := crew()
	for who, want := range map[age.Identity]string{me: "T000001 X000001", desks()["PV"].identity: "P000001 V000001 V000002", desks()["A"].identity: "A000001"} {
		if got := strings.Join(opens(files, who), " "); got != want {
			t.Errorf("somebody opens %q, want %q", got, want)
		}
	}
	rep, err := verify(files)
	if err != nil || rep.State != custody.VerdictClean {
		t.Fatalf("verify: %v", err)
	}
	k := of[*custody.FlightKey](leaves(t, files))[0]
	for _, g := range k.Groups {
		if want := custody.Fingerprint([]byte("0123456789abcdef"), desks()[g.Streams].to.Strings()[0]); !slices.Equal(g.Recipients, []string{want}) {
			t.Errorf("recipients of %s: %q", g.Streams, g.Recipients)
		}
		if got := string(files[device+"/F00000001/flight."+g.Streams+".pub"]); got != g.Pub+"\n" {
			t.Errorf("flight.%s.pub is %q", g.Streams, got)
		}
	}
	if len(k.Groups) != 2 {
		t.Errorf("%d groups", len(k.Groups))
	}
	wrong := maps.Clone(files)
	wrong[device+"/F00000001/flight.PV.key.age"] = files[device+"/F00000001/flight.A.key.age"]
	if _, err := verify(wrong); err == nil || !strings.Contains(err.Error(), "flight.PV.key.age") {
		t.Errorf("the key of another group: %v", err)
	}
}

// TestKeyGroupErrors: groups that the format does not know begin no record.
func TestKeyGroupErrors(t *testing.T) {
	for name, change := range map[string]func(k *vault.FlightKey){
		"of telemetry":     func(k *vault.FlightKey) { k.Groups[0].Streams = "T" },
		"not in order":     func(k *vault.FlightKey) { k.Groups[0], k.Groups[1] = k.Groups[1], k.Groups[0] },
		"sharing":          func(k *vault.FlightKey) { k.Groups[0].Streams = "AP" },
		"for no one":       func(k *vault.FlightKey) { k.Groups[1].Public = "" },
		"of no key at all": func(k *vault.FlightKey) { k.Public = "" },
	} {
		cfg := config(storagetest.New(1), &clock{})
		cfg.NewKey = func() (*vault.FlightKey, error) {
			k, err := groupedKey()
			if err == nil {
				change(k)
			}
			return k, err
		}
		v := mustOpen(t, cfg)
		if err := v.Begin(vault.Flight, vault.RecordID{}); err == nil {
			t.Errorf("groups %s were taken", name)
		}
		must(t, v.Close())
	}
}

// TestKeyGroupsAreCut cuts the power, and lets operations fail, while records with key groups are
// begun and written. Whatever is left, every key that leaf K names is there, a start brings it into
// order, and each segment of a group opens with the group's identity alone.
func TestKeyGroupsAreCut(t *testing.T) {
	run := func(d *storagetest.Disk) (began, ops int) {
		cfg := config(watch(t, d), &clock{})
		cfg.NewKey = groupedKey
		v, err := vault.Open(cfg)
		if err != nil {
			return 0, d.Ops()
		}
		m := v.NewMedia(cfg.FS, nil)
		began = d.Ops()
		for _, kind := range []vault.Kind{vault.Flight, vault.Ground} {
			_ = v.Prepare()
			for v.Step() {
			}
			_ = v.Begin(kind, vault.RecordID{})
			putFile(v, m, 'V', 1, randomBytes()[:50<<10])
			_ = v.Append(&segment.Block{Data: entries(0, 10)})
			_ = v.Flush()
		}
		_ = m.End()
		_ = v.Close()
		return began, d.Ops()
	}
	began, ops := run(storagetest.New(0))
	for at := began; at <= ops; at += stride() {
		for _, fail := range []bool{false, true} {
			d := storagetest.New(uint64(at))
			if fail {
				d.FailAt(at, syscall.EIO)
			} else {
				d.CrashAt(at)
			}
			run(d)
			if err := checkGroups(t, d.Crash(storagetest.Random)); err != nil {
				t.Errorf("operation %d, fails %v: %v", at, fail, err)
			}
		}
	}
}

// checkGroups looks at a medium before and after the next start.
func checkGroups(t *testing.T, d *storagetest.Disk) error {
	for _, when := range []string{"before", "after"} {
		if when == "after" {
			must(t, mustOpen(t, config(d, &clock{})).Close())
		}
		files := d.Files()
		// Before it, media may stand whose leaves had not come to the medium.
		if _, err := verify(files); err != nil && when == "after" {
			return fmt.Errorf("after the next start: %w", err)
		}
		me, _ := crew()
		mine := opens(files, me)
		for name := range files {
			s, ok := vault.ParseSegmentFile(path.Base(name))
			if !ok || s.Stream != 'V' || !s.Closed() {
				continue
			}
			if slices.Contains(mine, path.Base(name)[:7]) || !slices.Contains(opens(files, desks()["PV"].identity), path.Base(name)[:7]) {
				return fmt.Errorf("%s the next start: %s opens for the wrong people", when, name)
			}
		}
		if when == "after" && slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(n string) bool { return strings.Contains(n, "/NEXT/") }) {
			return errors.New("the folder of the next record is still there")
		}
	}
	return nil
}
