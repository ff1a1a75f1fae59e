package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// logLine is what slog prints of a recorder that has started; other lines are errors.
var logLine = regexp.MustCompile(`^time=\S+ level=`)

// wantRefusal wants an exit code and exactly one line on stderr that is no log line, with
// words in it, and no trace of a crash.
func wantRefusal(t *testing.T, r result, code int, words string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	var lines []string
	for line := range strings.Lines(r.stderr) {
		if !logLine.MatchString(line) {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || len(lines[0]) < 20 || !strings.HasSuffix(lines[0], "\n") {
		t.Errorf("%d lines on stderr, want one:\n%s", len(lines), r.stderr)
	}
	for _, bad := range []string{"panic", "goroutine", "runtime error", "internal error", "%!"} {
		if strings.Contains(r.stdout+r.stderr, bad) {
			t.Errorf("printed %q:\n%s%s", bad, r.stdout, r.stderr)
		}
	}
	if !strings.Contains(r.stderr, words) {
		t.Errorf("printed %q, want %q in it", r.stderr, words)
	}
}

// daemon runs holdfastd with a configuration that it must refuse.
func refuse(t *testing.T, args ...string) result {
	t.Helper()
	p := start(t, "holdfastd", args...)
	return result{p.wait(10 * time.Second), p.out.String(), p.errs.String()}
}

const goodConfig = "[[link]]\nname = \"fc\"\ndevice = \"fc\"\n[lock]\nmode = \"bench\"\n"

func TestBadConfig(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	for _, tc := range []struct{ name, text, words string }{
		{"empty", "", "link"},
		{"garbled", "\x00\xff\xfegarbage\x01\x02", "UTF-8"},
		{"no toml", "this is not = = toml\n[[[", "line 1"},
		{"cut short", goodConfig[:25], "line 3"},
		{"unknown key", goodConfig + "[vault]\npaht = \"x\"\n", "paht"},
		{"unknown table", goodConfig + "[valut]\npath = \"x\"\n", "valut"},
		{"key twice", goodConfig + "[vault]\npath = \"a\"\npath = \"b\"\n", "path"},
		{"wrong type", goodConfig + "[vault]\npath = 3\n", "vault.path"},
		{"bad duration", goodConfig + "[vault]\nflush_armed = \"soon\"\n", "flush_armed"},
		{"bad size", goodConfig + "[vault]\nreserve = \"much\"\n", "reserve"},
		{"bad policy", goodConfig + "[vault]\nwhen_full = \"newest\"\n", "when_full"},
		{"bad baud", strings.Replace(goodConfig, "[lock]", "baud = 0\n[lock]", 1), "baud"},
		{"no link", "[lock]\nmode = \"bench\"\n", "link"},
		{"link without device", "[[link]]\nname = \"fc\"\n[lock]\nmode = \"bench\"\n", "device"},
		{"unknown mode", strings.Replace(goodConfig, "bench", "open", 1), "lock.mode"},
		{"tcp far away", strings.Replace(goodConfig, `"fc"`+"\n[lock]", `"tcp:192.0.2.1:5760"`+"\n[lock]", 1), "loopback"},
		{"udp to all", strings.Replace(goodConfig, `"fc"`+"\n[lock]", `"udp:0.0.0.0:14550"`+"\n[lock]", 1), "loopback"},
		{"tcp by name", strings.Replace(goodConfig, `"fc"`+"\n[lock]", `"tcp:localhost:5760"`+"\n[lock]", 1), "localhost"},
		{"unknown scheme", strings.Replace(goodConfig, `"fc"`+"\n[lock]", `"http:127.0.0.1:80"`+"\n[lock]", 1), "http"},
		{"tcp when locked", "[[link]]\nname = \"fc\"\ndevice = \"tcp:127.0.0.1:5760\"\n", "bench"},
		{"huge", strings.Repeat("# filler\n", 1<<20), ""},
	} {
		config := writeFile(t, filepath.Join(b.dir, "bad.toml"), tc.text)
		for _, command := range []string{"run", "record", "check"} {
			t.Run(tc.name+"/"+command, func(t *testing.T) {
				wantRefusal(t, refuse(t, command, "--config", config), 1, tc.words)
			})
		}
	}
	t.Run("missing", func(t *testing.T) {
		wantRefusal(t, refuse(t, "run", "--config", b.path("no.toml")), 1, "no.toml")
	})
	t.Run("folder", func(t *testing.T) { wantRefusal(t, refuse(t, "run", "--config", b.dir), 1, b.dir) })
	if len(b.records()) != 0 {
		t.Error("a refused configuration made a record")
	}
}

// Without a valid recipient nothing is recorded, and the error says how to mend it.
func TestBadRecipients(t *testing.T) {
	t.Parallel()
	_, good := newIdentity(t)
	classic, _ := newIdentity(t, "--classic")
	secret := strings.TrimSpace(string(readFile(t, classic)))
	secret = secret[strings.LastIndex(secret, "\n")+1:]
	for _, tc := range []struct{ name, text string }{
		{"missing", ""},
		{"empty", ""},
		{"comments only", "# nobody\n\n"},
		{"garbled", "age1notarecipient\n"},
		{"binary", "\x00\x01\xfe\xff\n"},
		{"flipped letter", flipLast(good) + "\n"},
		{"secret key", secret + "\n"},
		{"secret key behind a good one", good + "\n" + secret + "\n"},
		{"secret key in a comment", good + "\n# " + secret + "\n"},
		{"plugin", "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t\n"},
		{"ssh-rsa", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7\n"},
		{"half a pair", good + " + \n"},
		{"same half twice", good + " + " + good + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBoard(t)
			line := b.pty()
			defer line.Close()
			if err := os.Remove(b.path("recipients.txt")); err != nil {
				t.Fatal(err)
			}
			if tc.name != "missing" {
				writeFile(t, b.path("recipients.txt"), tc.text)
			}
			r := refuse(t, "run", "--config", b.config())
			wantRefusal(t, r, 1, "recipients")
			if !strings.Contains(r.stderr, "holdfast keygen") && !strings.Contains(r.stderr, "holdfast provision") {
				t.Errorf("the error does not say how to mend it: %s", r.stderr)
			}
			if strings.Contains(r.stderr, secret) {
				t.Error("the error repeats the secret")
			}
			if len(b.records()) != 0 {
				t.Errorf("records appeared: %v", b.records())
			}
			wantRefusal(t, run(t, "holdfast", "keytest", "-i", b.operator, b.dir), 1, "recipients.txt")
		})
	}
}

// TestBadVaultOfADaemon: the place of the vault is no place for one.
func TestBadVaultOfADaemon(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		make  func(t *testing.T, b *board)
		words string
	}{
		{"a file", func(t *testing.T, b *board) { writeFile(t, b.vault(), "x") }, "vault"},
		{"below a file", func(t *testing.T, b *board) {
			b.configure(b.path("fc"), `path = "recipients.txt/vault"`)
		}, "vault"},
		{"device key garbled", func(t *testing.T, b *board) { writeFile(t, b.path("device.key"), "PRIVATE+KEY+x\n") }, "device key"},
		{"device key empty", func(t *testing.T, b *board) { writeFile(t, b.path("device.key"), "") }, "device key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBoard(t)
			tc.make(t, b)
			wantRefusal(t, refuse(t, "run", "--config", b.config()), 1, tc.words)
		})
	}
}

// TestBadInputOfTheOperator is the table of the operator's tool.
func TestBadInputOfTheOperator(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.recordOnce(groundFrames(t, 21))
	dir := t.TempDir()
	file := func(name, text string) string { return writeFile(t, filepath.Join(dir, name), text) }
	folder := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wrong, recipient := newIdentity(t)
	empty, foreign, full := folder("empty"), folder("foreign"), folder("full")
	file("foreign/photo.jpg", "x")
	file("full/kept.txt", "mine")
	fresh := folder("fresh")
	if err := os.MkdirAll(filepath.Join(fresh, "0011aabb", "LOG"), 0o700); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	opens := func(vault, identity string) []string { return []string{"open", vault, "-i", identity, "-o", out} }
	for _, tc := range []struct {
		name  string
		args  []string
		code  int
		words string
	}{
		{"vault missing", opens(dir+"/no", b.operator), 1, "no such folder"},
		{"vault empty folder", opens(empty, b.operator), 1, "not a vault"},
		{"vault a file", opens(b.operator, b.operator), 1, "not a folder"},
		{"vault foreign", opens(foreign, b.operator), 1, "not a vault"},
		{"vault without records", opens(fresh, b.operator), 6, "no record"},
		{"unknown flight", append(opens(b.vault(), b.operator), "--flight", "F00000099"), 6, "F00000099"},
		{"garbled flight", append(opens(b.vault(), b.operator), "--flight", "../.."), 6, "../.."},
		{"identity missing", opens(b.vault(), dir+"/no.key"), 1, "no.key"},
		{"identity empty", opens(b.vault(), file("empty.key", "")), 1, "identity"},
		{"identity garbled", opens(b.vault(), file("garbled.key", "AGE-SECRET-KEY-1GARBLED\n")), 1, "garbled.key"},
		{"identity binary", opens(b.vault(), file("binary.key", "\x00\xff\x01")), 1, "binary.key"},
		{"identity a recipient", opens(b.vault(), file("public.key", recipient+"\n")), 1, "identity"},
		{"identity a folder", opens(b.vault(), empty), 1, empty},
		{"identity wrong", opens(b.vault(), wrong), 5, "identity"},
		{"out not empty", []string{"open", b.vault(), "-i", b.operator, "-o", full}, 1, "not empty"},
		{"out a file", []string{"open", b.vault(), "-i", b.operator, "-o", b.operator}, 1, "folder"},
		{"out inside the vault", []string{"open", b.vault(), "-i", b.operator, "-o", b.vault() + "/out"}, 1, "inside"},
		{"list missing", []string{"list", dir + "/no"}, 1, "no such folder"},
		{"list empty folder", []string{"list", empty}, 1, "not a vault"},
		{"list foreign", []string{"list", foreign}, 1, "not a vault"},
		{"list without records", []string{"list", fresh}, 6, "no record"},
		{"list wrong identity", []string{"list", b.vault(), "-i", wrong}, 5, "identit"},
		{"keytest wrong identity", []string{"keytest", "-i", wrong, b.dir}, 5, "identity"},
		{"keytest no folder", []string{"keytest", "-i", wrong, dir + "/no"}, 1, "no"},
		{"keygen over a file", []string{"keygen", "-o", b.operator}, 1, "exists"},
		{"open without identity", []string{"open", b.vault(), "-o", out}, 2, "identity"},
		{"open without output", []string{"open", b.vault(), "-i", b.operator}, 2, "output"},
		{"open nothing", []string{"open"}, 2, ""},
		{"unknown flag", []string{"list", "--colour", b.vault()}, 2, "colour"},
		{"unknown command", []string{"opne", b.vault()}, 2, "opne"},
		{"verify garbage key", []string{"verify", b.vault(), "--device-key", wrong}, 1, "device.pub"},
		{"export later", []string{"export", b.vault(), "--format", "csv", "-o", "x"}, 2, "later"},
		{"report later", []string{"report", b.vault()}, 2, "later"},
		{"retrieve later", []string{"retrieve", b.vault(), "-o", "x"}, 2, "later"},
		{"share later", []string{"share", b.vault()}, 2, "later"},
		{"rekey later", []string{"rekey", b.vault()}, 2, "later"},
		{"stick later", []string{"stick", "prepare", b.vault()}, 2, "later"},
		{"enroll later", []string{"enroll", b.vault()}, 2, "later"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantRefusal(t, run(t, "holdfast", tc.args...), tc.code, tc.words)
			if _, err := os.Stat(out); tc.code != 5 && err == nil {
				t.Error("the output folder was made")
			}
			os.RemoveAll(out)
		})
	}
	if got := string(readFile(t, filepath.Join(full, "kept.txt"))); got != "mine" {
		t.Error("a file in the output folder was changed")
	}
}

func TestBadUsageOfTheOthers(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line := b.path("line")
	garbled := writeFile(t, b.path("garbled.tlog"), "")
	for _, tc := range []struct {
		name, program string
		args          []string
		code          int
		words         string
	}{
		{"run without config", "holdfastd", []string{"run"}, 2, "config"},
		{"record without config", "holdfastd", []string{"record"}, 2, "config"},
		{"unknown flag", "holdfastd", []string{"run", "--config", b.config(), "--fast"}, 2, "fast"},
		{"stray argument", "holdfastd", []string{"run", "--config", b.config(), "x"}, 2, "x"},
		{"unknown command", "holdfastd", []string{"rnu"}, 2, "rnu"},
		{"lockdown on a bench", "holdfastd", []string{"lockdown", "--config", b.config()}, 1, "bench"},
		{"replay missing tlog", "holdfast-bench", []string{"replay", b.path("no.tlog"), "--pty", line}, 1, "no.tlog"},
		{"replay empty tlog", "holdfast-bench", []string{"replay", garbled, "--pty", line}, 1, "nothing"},
		{"replay a folder", "holdfast-bench", []string{"replay", b.dir, "--pty", line}, 1, b.dir},
		{"replay without pty", "holdfast-bench", []string{"replay", garbled}, 2, "pty"},
		{"replay bad speed", "holdfast-bench", []string{"replay", b.config(), "--pty", line, "--speed", "-1"}, 2, "speed"},
		{"replay over a file", "holdfast-bench", []string{"replay", b.config(), "--pty", b.config()}, 1, "taken"},
		{"vehicle without pty", "holdfast-bench", []string{"vehicle"}, 2, "pty"},
		{"vehicle unknown stack", "holdfast-bench", []string{"vehicle", "--pty", line, "--stack", "inav"}, 2, "inav"},
		{"demo not empty", "holdfast-bench", []string{"demo", "-o", b.dir}, 1, "not empty"},
		{"audit later", "holdfast-bench", []string{"audit", "--faults"}, 2, "not built yet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantRefusal(t, run(t, tc.program, tc.args...), tc.code, tc.words)
		})
	}
}

// A garbled .tlog is replayed as it stands: no byte of it is an entry, all of it is noise.
func TestGarbledTlogIsNoise(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	junk := "\xfd\x00\x01 this is no recording \xfe\xff and holds no frame\n"
	stream := []byte(strings.Repeat(junk, 200))
	records := replayAndOpen(t, writeFile(t, b.path("junk.tlog"), string(stream)), stream)
	if n := len(allFrames(records)); n != 0 {
		t.Errorf("%d frames in garbage", n)
	}
}

// flipLast changes the last letter, which belongs to the checksum, to another one.
func flipLast(recipient string) string {
	last := "x"
	if strings.HasSuffix(recipient, last) {
		last = "q"
	}
	return recipient[:len(recipient)-1] + last
}
