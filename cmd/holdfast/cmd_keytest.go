package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/crypto/keys"
	"holdfast/crypto/open"
	"holdfast/crypto/seal"
	"holdfast/firmware/config"
)

type keytestOptions struct {
	identities []string
	json       bool
}

func keytestCommand() *cobra.Command {
	var o keytestOptions
	c := &cobra.Command{
		Use:   "keytest -i FILE DIR",
		Short: "Prove before take-off that an identity opens what a provision folder seals",
		Long: `keytest makes a flight key as a board would, for the recipients that DIR/holdfast.toml
names, seals a probe to it and opens the probe with the identities given. Nothing is
written. The two-person rule needs both identities: -i A -i B. Test each key on its own:
with several, one that fits is enough. Where streams have recipients of their own, there is
a probe for each, and what opened and what did not is said.

EXIT STATUS
  0 a probe opened; 1 a file is at fault; 2 wrong usage; 5 no identity fits any`,
		Example: "  holdfast keytest -i operator.key board\n  holdfast keytest -i recovery.key board",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0]) },
	}
	c.Flags().StringArrayVarP(&o.identities, "identity", "i", nil, "identity file; may be repeated (required)")
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

type keytestResult struct {
	OK          bool   `json:"ok"` // something opened
	Recipients  int    `json:"recipients"`
	Identities  int    `json:"identities"`
	PostQuantum bool   `json:"post_quantum"`
	Reason      string `json:"reason,omitempty"`
	// Groups is empty where all streams have the same recipients. Else the last one, of no
	// streams by name, is of all that are in no other.
	Groups []probed `json:"groups,omitempty"`
}

// probed is whether what is sealed to one group of recipients opened.
type probed struct {
	Streams     string `json:"streams"` // letters; empty: all streams that are in no group
	OK          bool   `json:"ok"`
	Recipients  int    `json:"recipients"`
	PostQuantum bool   `json:"post_quantum"`
}

func (o keytestOptions) run(stdout io.Writer, dir string) error {
	if len(o.identities) == 0 {
		return cli.Exit(cli.Usage, "-i FILE is needed: the identity to test")
	}
	c, err := loadConfig(dir)
	if err != nil {
		return err
	}
	r, err := readRecipients(c.Vault.Recipients)
	if err != nil {
		return err
	}
	ids, err := readIdentities(o.identities)
	if err != nil {
		return err
	}
	groups, err := readGroups(c)
	if err != nil {
		return err
	}
	result, err := tryKeys(r, groups, ids)
	if err != nil {
		return err
	}
	if err := o.print(stdout, result, dir); err != nil {
		return err
	}
	if !result.OK {
		return noIdentity(c.Vault.Recipients)
	}
	return nil
}

// readGroups reads the recipients that streams have for themselves.
func readGroups(c *config.Config) (groups []keys.Group, err error) {
	for path, streams := range c.StreamRecipients() {
		r, err := readRecipients(path)
		if err != nil {
			return nil, err
		}
		groups = append(groups, keys.Group{Streams: streams, Recipients: r})
	}
	return keys.SortGroups(groups)
}

// tryKeys tries the identities on what is sealed to r and to each of groups.
func tryKeys(r *keys.Recipients, groups []keys.Group, ids []age.Identity) (keytestResult, error) {
	k, err := keys.NewFlightKey(r, groups...)
	if err != nil {
		return keytestResult{}, err
	}
	result := keytestResult{Recipients: r.Count(), Identities: len(ids), PostQuantum: r.PostQuantum()}
	for _, g := range k.Groups {
		i := slices.IndexFunc(groups, func(of keys.Group) bool { return of.Streams == g.Streams })
		of := groups[i].Recipients
		ok, err := opensProbe(g.Public, g.Files, ids)
		if err != nil {
			return result, err
		}
		result.Groups = append(result.Groups, probed{g.Streams, ok, of.Count(), of.PostQuantum()})
	}
	result.OK, err = opensProbe(k.Public, k.Files, ids)
	if err != nil {
		return result, err
	}
	if len(result.Groups) > 0 {
		result.Groups = append(result.Groups, probed{"", result.OK, r.Count(), r.PostQuantum()})
		result.OK = slices.ContainsFunc(result.Groups, func(p probed) bool { return p.OK })
	}
	if !result.OK {
		result.Reason = "no identity fits"
	}
	return result, nil
}

func noIdentity(recipients string) error {
	return cli.Exit(cli.NoIdentity, `no identity fits: none given opens what is sealed to %s; check that its recipient stands there (a line "R1 + R2" needs both)`, recipients)
}

func (o keytestOptions) print(w io.Writer, result keytestResult, dir string) error {
	if o.json {
		return cli.PrintJSON(w, result)
	}
	if !result.OK {
		return nil
	}
	if !slices.ContainsFunc(result.Groups, func(p probed) bool { return !p.OK }) {
		_, err := fmt.Fprintf(w, "ok: what %s seals opens with this identity\n", dir)
		return err
	}
	for _, p := range result.Groups {
		what, opens := "streams "+p.Streams, "ok: opens"
		if p.Streams == "" {
			what = "all other streams"
		}
		if !p.OK {
			opens = "sealed to others"
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", what, opens); err != nil {
			return err
		}
	}
	return nil
}

// readIdentities reads the files of -i and adds a hint to what is wrong.
func readIdentities(paths []string) ([]age.Identity, error) {
	var all []age.Identity
	for _, path := range paths {
		ids, err := readIdentityFile(path)
		if err != nil {
			return nil, keyHint(err)
		}
		all = append(all, ids...)
	}
	return all, nil
}

func readIdentityFile(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ids, err := keys.ParseIdentities(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ids, nil
}

// probeSize is more than two chunks of 64 KiB, so that more than a header is proved.
const probeSize = 150_000

// opensProbe goes the whole way of a segment: seal, unwrap, open. It is false where no identity fits.
func opensProbe(public string, files []keys.WrappedFile, ids []age.Identity) (bool, error) {
	probe := make([]byte, probeSize)
	rand.Read(probe) // never fails (crypto/rand)
	sealed, err := sealProbe(public, probe)
	if err != nil {
		return false, err
	}
	var wrapped [][]byte
	for _, f := range files {
		wrapped = append(wrapped, f.Data)
	}
	id, err := open.New(ids...).Flight(wrapped...)
	if errors.Is(err, open.ErrNoIdentity) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	opened, err := age.Decrypt(bytes.NewReader(sealed), id)
	if err != nil {
		return false, err
	}
	got, err := io.ReadAll(opened)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(got, probe) {
		return false, errors.New("the probe opened to other bytes than were sealed")
	}
	return true, nil
}

func sealProbe(public string, probe []byte) ([]byte, error) {
	to, err := keys.ParseRecipient(public)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	s, err := seal.New(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(probe); err != nil {
		s.Abandon()
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
