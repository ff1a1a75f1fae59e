package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"holdfast/crypto/custody"
)

// Tamper records vaults below dir, which must be there, and attacks them. progress is told how
// many attacks of how many are done.
func Tamper(ctx context.Context, dir string, seed uint64, progress func(done, all int)) (*Battery, error) {
	st, err := prepare(dir, seed)
	if err != nil {
		return nil, err
	}
	return st.run(ctx, custody.Verify, progress)
}

// stage is what was recorded, and the attacks on it.
type stage struct {
	seed    uint64
	subs    *subjects
	attacks []mutation
}

func prepare(dir string, seed uint64) (*stage, error) {
	subs, err := recordSubjects(dir, seed)
	if err != nil {
		return nil, err
	}
	attacks, err := attacksOn(subs, seed)
	return &stage{seed, subs, attacks}, err
}

// run verifies each attacked folder by v, after the untouched ones.
func (st *stage) run(ctx context.Context, v verify, progress func(done, all int)) (b *Battery, err error) {
	b = &Battery{Name: "tamper", Seed: st.seed}
	for _, s := range []*subject{st.subs.day, st.subs.cut} {
		if s.base, err = v(s.files.fs(), s.options()); err != nil {
			return nil, fmt.Errorf("verify before the attack: %w", err)
		}
		b.add(untouched(s))
	}
	for i := range st.attacks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.add(st.attacks[i].run(v))
		progress(i+1, len(st.attacks))
	}
	return b, nil
}

// untouched holds the vault before any attack against what was recorded: it is whole, and of
// its records those that were cut are cut.
func untouched(s *subject) Case {
	c := Case{Category: "no attack", Name: "day", Want: "cut, and nothing but the cut record is to blame"}
	if s.unended {
		c.Name = "cut"
	}
	for _, f := range facts(s.base) {
		if f.state != custody.VerdictClean && f.state != custody.VerdictCut {
			c.Wrong = append(c.Wrong, fmt.Sprintf("%s is %s by %s", f.file, f.state, f.rule))
		}
	}
	for record, state := range states(s.base) {
		if ended := !s.wasCut(record+"/") && !(s.unended && record == s.lastRecord()); ended != (state == custody.VerdictClean) {
			c.Wrong = append(c.Wrong, fmt.Sprintf("%s is %s", record, state))
		}
	}
	if s.base.State != custody.VerdictCut || !s.base.Pinned || s.base.Leaves != int64(len(s.leaves)) {
		c.Wrong = append(c.Wrong, fmt.Sprintf("the folder is %s with %d leaves", s.base.State, s.base.Leaves))
	}
	return c
}

// attacksOn makes all attacks. They follow from the vaults and the seed.
func attacksOn(subs *subjects, seed uint64) ([]mutation, error) {
	m := &maker{rng: rand.New(rand.NewPCG(seed, 1)), keys: rand.NewChaCha8([32]byte{byte(seed), 2})}
	for _, s := range []*subject{subs.day, subs.cut} {
		if err := m.flips(s); err != nil {
			return nil, err
		}
		m.leafFlips(s)
		m.deletes(s)
		m.swaps(s)
		m.replays(s)
		m.logCuts(s)
		m.logExtends(s)
		m.additions(s)
		if err := m.rollbacks(s); err != nil {
			return nil, err
		}
	}
	for _, do := range []func(*subject) error{m.cutsAndExtends, m.edits, m.rules, func(s *subject) error { return m.otherKeys(s, subs.other) }} {
		if err := do(subs.day); err != nil {
			return nil, err
		}
	}
	m.reorders(subs.day)
	m.grafts(subs.day, subs.other)
	err := m.unnoticed(subs)
	return m.all, err
}

// run makes the attack's folder be verified and compares.
func (a *mutation) run(v verify) Case {
	c := Case{Category: a.category, Name: a.name, Want: a.want.String(), Unnoticed: a.why}
	o := a.subject.options()
	if a.options != nil {
		a.options(&o)
	}
	got, err := v(a.files.fs(), o)
	if err != nil {
		c.Wrong = []string{"no verdict: " + err.Error()}
		return c
	}
	c.Wrong = a.want.check(got, a.subject.base)
	return c
}

// String says what is wanted in words.
func (w want) String() string {
	if w.quiet {
		return fmt.Sprintf("%s, unnoticed", w.state)
	}
	parts := []string{string(w.state)}
	for _, p := range w.places {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, "; ")
}
