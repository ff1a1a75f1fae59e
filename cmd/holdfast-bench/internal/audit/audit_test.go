package audit

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/crypto/custody"
)

func quiet(int, int) {}

// must prints what is not as it must be.
func must(t *testing.T, b *Battery, err error) *Battery {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.Failed() {
		t.Errorf("%s: %s: %q", c.Category, c.Name, c.Wrong)
	}
	return b
}

// few asks for a small share of attacks and cuts.
var few = false

// sample returns each n-th attack.
func sample(all []mutation, n int) (some []mutation) {
	for i := 0; i < len(all); i += n {
		some = append(some, all[i])
	}
	return some
}

func TestTamper(t *testing.T) {
	if few {
		st, err := prepare(t.TempDir(), 1)
		if err != nil {
			t.Fatal(err)
		}
		st.attacks = sample(st.attacks, 15)
		b, err := st.run(t.Context(), custody.Verify, quiet)
		must(t, b, err)
		return
	}
	b, err := Tamper(t.Context(), t.TempDir(), 1, quiet)
	must(t, b, err)
	names, kinds, unnoticed := map[string]bool{}, map[string]bool{}, 0
	for _, c := range b.Cases {
		key := c.Category + ": " + c.Name
		if c.Unnoticed != "" {
			unnoticed++
		}
		names[key] = true
		for _, k := range "BLRKOCXZE" {
			if c.Category == "edit a leaf" && strings.Contains(c.Name, fmt.Sprintf("(%c),", k)) {
				kinds[string(k)] = true
			}
		}
	}
	if len(names)-unnoticed < 300 || unnoticed < 10 || len(kinds) != 9 {
		t.Errorf("%d attacks by name, %d unnoticed, leaves edited: %v", len(names), unnoticed, kinds)
	}
	for n := 1; n <= 16; n++ {
		rule := regexp.MustCompile(fmt.Sprintf(`by V%d\b`, n))
		if !slices.ContainsFunc(b.Cases, func(c Case) bool { return rule.MatchString(c.Want) }) {
			t.Errorf("no attack wants rule V%d", n)
		}
	}
}

// TestTamperSeeds: other vaults, other places.
func TestTamperSeeds(t *testing.T) {
	if testing.Short() || os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("long: HOLDFAST_LONG=1")
	}
	for seed := uint64(2); seed < 12; seed++ {
		b, err := Tamper(t.Context(), t.TempDir(), seed, quiet)
		must(t, b, err)
	}
}

// weak verifies as custody does, and then forgets.
func weak(forget func(f custody.Finding) bool) verify {
	return func(fsys fs.FS, o custody.Options) (*custody.Report, error) {
		r, err := custody.Verify(fsys, o)
		if err != nil {
			return nil, err
		}
		r.Findings = slices.DeleteFunc(r.Findings, forget)
		r.State = custody.VerdictCut
		for _, rec := range r.Records {
			rec.Findings = slices.DeleteFunc(rec.Findings, forget)
			for i, s := range rec.Segments {
				if forget(custody.Finding{State: s.State, Rule: s.Rule}) {
					rec.Segments[i].State, rec.Segments[i].Rule = custody.VerdictClean, ""
				} else {
					r.State = r.State.Worse(s.State)
				}
			}
			for _, f := range rec.Findings {
				r.State = r.State.Worse(f.State)
			}
		}
		for _, f := range r.Findings {
			r.State = r.State.Worse(f.State)
		}
		return r, nil
	}
}

// TestWeakVerifyFails: the audit is worth something only if it fails where verification does.
// One that accepts everything fails nearly everywhere; one without a single rule fails, too.
func TestWeakVerifyFails(t *testing.T) {
	st, err := prepare(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[*subject]*custody.Report{}
	for _, s := range []*subject{st.subs.day, st.subs.cut} {
		if seen[s], err = custody.Verify(s.files.fs(), s.options()); err != nil {
			t.Fatal(err)
		}
	}
	wrong := 0
	for i := range st.attacks {
		a := &st.attacks[i]
		accept := func(fs.FS, custody.Options) (*custody.Report, error) { return seen[a.subject], nil }
		a.subject.base = seen[a.subject]
		if c := a.run(accept); len(c.Wrong) > 0 {
			wrong++
		} else if a.why == "" && a.name != control {
			t.Errorf("%s: %s: a verification that accepts everything passes", a.category, a.name)
		}
	}
	t.Logf("accepting everything: %d of %d attacks fail", wrong, len(st.attacks))
	for n := 1; n <= 16; n++ {
		rule := fmt.Sprintf("V%d", n)
		wanting := &stage{st.seed, st.subs, nil}
		for _, a := range st.attacks {
			if slices.ContainsFunc(a.want.places, func(p place) bool { return slices.Equal(p.rules, []string{rule}) }) && len(wanting.attacks) < 5 {
				wanting.attacks = append(wanting.attacks, a)
			}
		}
		b, err := wanting.run(t.Context(), weak(func(f custody.Finding) bool { return f.Rule == rule }), quiet)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Failed()) < len(wanting.attacks) || len(wanting.attacks) == 0 {
			t.Errorf("with a verification without rule %s %d of %d fail", rule, len(b.Failed()), len(wanting.attacks))
		}
	}
}

// TestAccuserFails: a verification that calls everything tampered fails, too.
func TestAccuserFails(t *testing.T) {
	accuse := func(fsys fs.FS, o custody.Options) (*custody.Report, error) {
		r, err := custody.Verify(fsys, o)
		if err == nil {
			r.State = custody.VerdictTampered
			for _, rec := range r.Records {
				rec.State = custody.VerdictTampered
			}
		}
		return r, err
	}
	st, err := prepare(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	st.attacks = sample(st.attacks, 20)
	b, err := st.run(t.Context(), accuse, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if failed := len(b.Failed()); len(b.Cases[0].Wrong) == 0 || failed < len(st.attacks)/10 {
		t.Errorf("%d of %d cases fail; of the vault that nobody touched it says %q", failed, len(st.attacks), b.Cases[0].Wrong)
	}
}

func TestPower(t *testing.T) {
	n := 90
	if few {
		n = 70
	}
	b, err := Power(t.Context(), n, 1, quiet)
	must(t, b, err)
	t.Log(b.Notes)
}

// TestPowerAccuser: a verification that takes a cut for a hand fails the battery.
func TestPowerAccuser(t *testing.T) {
	if few {
		t.Skip("slow under the race detector")
	}
	accuse := func(fsys fs.FS, o custody.Options) (*custody.Report, error) {
		r, err := custody.Verify(fsys, o)
		if err == nil {
			for i := range r.Findings {
				r.Findings[i].State = custody.VerdictTampered
			}
		}
		return r, err
	}
	b, err := power(t.Context(), 60, 1, accuse, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Failed()) == 0 {
		t.Error("nothing fails")
	}
}
