package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/crypto/keys"
)

type keygenOptions struct {
	out                         string
	classic, passphrase, signer bool
	now                         func() time.Time
}

func keygenCommand() *cobra.Command {
	o := keygenOptions{now: time.Now}
	c := &cobra.Command{
		Use:   "keygen -o FILE [--classic | --signer]",
		Short: "Make an operator's identity or signing key",
		Long: `keygen makes an identity, the secret that opens flights, and writes it to FILE (mode 0600,
never over a file that is there). It prints the recipient, which goes on boards, alone on
stdout. The file has age's form: age -d -i FILE takes it too.

The identity is a post-quantum hybrid (ML-KEM-768 and X25519); age 1.3 or later opens what
is sealed to it. --classic makes an X25519 identity, for older tools and shorter lines.

--signer makes a signing key instead (Ed25519, in the form of C2SP signed notes). It opens
nothing; it signs what an operator tells a board. Its verifier line, which goes on boards
and into signers.txt, stands alone on stdout.

EXIT STATUS
  0 done; 1 FILE exists or cannot be written; 2 wrong usage`,
		Example: "  holdfast keygen -o operator.key\n  holdfast keygen -o recovery.key\n  holdfast keygen --signer -o signing.key",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVarP(&o.out, "output", "o", "", "file of the new identity or signing key (required)")
	f.BoolVar(&o.classic, "classic", false, "X25519 instead of the post-quantum hybrid")
	f.BoolVar(&o.passphrase, "passphrase", false, "protect FILE by a passphrase (arrives in a later release)")
	f.BoolVar(&o.signer, "signer", false, "make a signing key instead of an identity")
	return c
}

func (o keygenOptions) check() error {
	switch {
	case o.signer && (o.classic || o.passphrase):
		return cli.Exit(cli.Usage, "--signer goes with neither --classic nor --passphrase: a signing key is always Ed25519")
	case o.passphrase:
		return cli.Exit(cli.Usage, "--passphrase arrives in a later release")
	case o.out == "":
		return cli.Exit(cli.Usage, "-o FILE is needed: where the secret goes")
	case o.out == "-":
		return cli.Exit(cli.Usage, "the secret goes to a file only, never to stdout: give -o FILE")
	}
	return nil
}

func (o keygenOptions) run(stdout io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	secret, public, err := o.generate()
	if err != nil {
		return err
	}
	err = writeNew(o.out, 0o600, func(w io.Writer) error {
		_, err := w.Write(secret)
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is left as it is: a key file is never overwritten, choose another name", o.out)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, public)
	return err
}

// generate returns the content of the file, and the line for others.
func (o keygenOptions) generate() (secret []byte, public string, err error) {
	if o.signer {
		k, err := keys.NewOperatorKey(rand.Reader)
		if err != nil {
			return nil, "", err
		}
		return k.Marshal(), k.Verifier(), nil
	}
	identity, recipient, err := keys.GenerateIdentity(o.classic)
	if err != nil {
		return nil, "", err
	}
	return fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n", o.now().UTC().Format(time.RFC3339), recipient, identity), recipient, nil
}
