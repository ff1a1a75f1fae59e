package firmware

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPulledLogs: what was pulled is known over starts, once it has been whole for a while; the file
// tells nobody when that was; a file that is none is begun anew, and one that cannot be had costs
// nothing but the memory.
func TestPulledLogs(t *testing.T) {
	cfg, _ := parse(t, "")
	path := filepath.Join(filepath.Dir(cfg.Vault.DeviceKey), pulledName)
	quiet := slog.New(slog.DiscardHandler)
	open := func() *pulledLogs { return openPulled(cfg, quiet) }
	p := open()
	p.pulled(7, 1_790_000_000, 4096)
	p.step(sinceBoot()())
	if q := open(); q.known(7, 1_790_000_000, 4096) {
		t.Error("known before it can be on the medium")
	}
	p.step(sinceBoot()() + pulledAfter)
	p.close()
	q := open()
	if !q.known(7, 1_790_000_000, 4096) || q.known(7, 1_790_000_001, 4096) || q.known(8, 1_790_000_000, 4096) {
		t.Error("another log is known, or this one is not")
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), "1790000000") || strings.Contains(string(text), fmt.Sprintf("%x", 1_790_000_000)) {
		t.Errorf("%v %s", err, text)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi, err)
	}
	for _, bad := range []string{"", "x", pulledHead + "\n", pulledHead + "\nzz\n", pulledHead + "\n" + strings.Repeat("00", pulledSalt) + "\n" + many(pulledMost+1)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		p := open()
		if p.known(7, 1_790_000_000, 4096) || p.file == nil {
			t.Errorf("%.30q: not begun anew", bad)
		}
		p.pulled(9, 1, 1)
		p.step(time.Hour + sinceBoot()())
		p.close()
		if !open().known(9, 1, 1) {
			t.Errorf("%.30q: remembers nothing", bad)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	p = open()
	p.pulled(9, 1, 1)
	p.step(time.Hour)
	p.close()
	if p.known(9, 1, 1) {
		t.Error("known without a file")
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%032x\n", i)
	}
	return b.String()
}
