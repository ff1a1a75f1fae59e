package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/crypto/keys"
	"holdfast/crypto/open"
	"holdfast/crypto/seal"
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
with several, one that fits is enough.

EXIT STATUS
  0 the probe opened; 1 a file is at fault; 2 wrong usage; 5 no identity fits`,
		Example: "  holdfast keytest -i operator.key board\n  holdfast keytest -i recovery.key board",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0]) },
	}
	c.Flags().StringArrayVarP(&o.identities, "identity", "i", nil, "identity file; may be repeated (required)")
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

type keytestResult struct {
	OK          bool   `json:"ok"`
	Recipients  int    `json:"recipients"`
	Identities  int    `json:"identities"`
	PostQuantum bool   `json:"post_quantum"`
	Reason      string `json:"reason,omitempty"`
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
	result := keytestResult{OK: true, Recipients: r.Count(), Identities: len(ids), PostQuantum: r.PostQuantum()}
	err = tryProbe(r, ids)
	if errors.Is(err, open.ErrNoIdentity) {
		err = noIdentity(c.Vault.Recipients)
		result.OK, result.Reason = false, "no identity fits"
	} else if err != nil {
		return err
	}
	if printErr := o.print(stdout, result, dir); printErr != nil {
		return printErr
	}
	return err
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
	_, err := fmt.Fprintf(w, "ok: what %s seals opens with this identity\n", dir)
	return err
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

// tryProbe goes the whole way of a flight: key, wrap, seal, unwrap, open.
func tryProbe(r *keys.Recipients, ids []age.Identity) error {
	flight, err := keys.NewFlightKey(r)
	if err != nil {
		return err
	}
	probe := make([]byte, probeSize)
	rand.Read(probe) // never fails (crypto/rand)
	sealed, err := sealProbe(flight.Public, probe)
	if err != nil {
		return err
	}
	var wrapped [][]byte
	for _, f := range flight.Files {
		wrapped = append(wrapped, f.Data)
	}
	id, err := open.New(ids...).Flight(wrapped...)
	if err != nil {
		return err
	}
	opened, err := age.Decrypt(bytes.NewReader(sealed), id)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(opened)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, probe) {
		return errors.New("the probe opened to other bytes than were sealed")
	}
	return nil
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
