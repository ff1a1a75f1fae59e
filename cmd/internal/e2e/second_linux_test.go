package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// secondReader runs scripts/second-reader, which shares no code with ours. The test is left out
// where what it needs is missing.
func secondReader(t testing.TB, args ...string) (stdout string, code int) {
	t.Helper()
	zstdProgram(t)
	python := ""
	for _, p := range []string{"/usr/bin/python3", "python3"} {
		if python == "" && exec.Command(p, "-c", "import cryptography").Run() == nil {
			python = p
		}
	}
	if python == "" {
		t.Skip("no python3 with cryptography on this machine: apt-get install python3-cryptography")
	}
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), python, append([]string{filepath.Join(module, "scripts/second-reader/second_reader.py")}, args...)...)
	cmd.Env = append(os.Environ(), "AGE="+filepath.Join(bin, "age"), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if errs.Len() > 0 {
		t.Logf("second reader: %s", errs.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// wantSecond wants the second reader to judge the vault as ours does, and to open the same frames.
func (b *board) wantSecond(code int, want [][]byte) {
	b.t.Helper()
	if r := run(b.t, "holdfast", "verify", b.vault()); r.code != code {
		b.t.Errorf("holdfast verify: exit code %d, want %d: %s%s", r.code, code, r.stdout, r.stderr)
	}
	if out, got := secondReader(b.t, "verify", b.vault()); got != code {
		b.t.Errorf("second reader, verify: exit code %d, want %d: %s", got, code, out)
	}
	out := filepath.Join(b.t.TempDir(), "second")
	if text, got := secondReader(b.t, "open", b.vault(), "-i", b.operator, "-o", out); got != code {
		b.t.Fatalf("second reader, open: exit code %d, want %d: %s", got, code, text)
	}
	var frames [][]byte
	for _, r := range b.records() {
		_, fs, err := splitTlog(readFile(b.t, filepath.Join(out, filepath.Base(filepath.Dir(r)), filepath.Base(r), "telemetry.tlog")))
		if err != nil {
			b.t.Fatal(err)
		}
		frames = append(frames, fs...)
	}
	wantFrames(b.t, "second reader", frames, want)
}

func TestSecondReaderClosed(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	frames := groundFrames(t, 21)
	b.recordOnce(frames)
	b.wantSecond(0, frames)
}

// A recorder that was killed, and the start after it.
func TestSecondReaderCut(t *testing.T) {
	t.Parallel()
	b := newBoard(t, `flush_idle = "200ms"`)
	frames := groundFrames(t, 22)
	line, daemon := b.pty(), b.record()
	send(t, line, join(frames))
	b.waitSealed(1)
	b.waitDurable(len(frames))
	daemon.kill()
	b.wantSecond(3, frames)
	again, more := b.run(), groundFrames(t, 23)
	send(t, line, join(more))
	again.stop()
	b.wantSecond(3, append(frames, more...))
}
