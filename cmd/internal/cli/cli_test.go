package cli_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"holdfast/cmd/internal/cli"
)

func TestExitErrorUnwraps(t *testing.T) {
	err := cli.Exit(cli.Error, "read: %w", context.Canceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not unwrap to its cause", err)
	}
	if got := (&cli.ExitError{Code: 6}).Error(); got != "exit code 6" {
		t.Errorf("text %q", got)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB",
		1 << 20: "1.0 MiB", 5 << 30: "5.0 GiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := cli.Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPrintJSON(t *testing.T) {
	var b bytes.Buffer
	v := struct {
		StrayBytes int    `json:"stray_bytes"`
		File       string `json:"file"`
	}{3, "<a&b>"}
	if err := cli.PrintJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	if want := "{\"stray_bytes\":3,\"file\":\"<a&b>\"}\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestIsTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if cli.IsTerminal(w) || cli.IsTerminal(nil) {
		t.Error("a pipe is no terminal")
	}
}
