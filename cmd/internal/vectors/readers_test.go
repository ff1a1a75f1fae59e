package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/crypto/custody"
	"holdfast/firmware/evidence"
	"holdfast/mavlink"
)

const (
	root         = "../../.."
	vectorsDir   = root + "/docs/format/vectors"
	secondReader = root + "/scripts/second-reader/second_reader.py"
)

// programs builds ours and stock age, once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "holdfast-vectors-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/holdfast", "filippo.io/age/cmd/age")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("go build: %w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := programs(); dir != "" {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// reader is a program with the commands verify and open of CONTRACT's form. run returns what
// it printed and its exit code.
type reader struct {
	name string
	run  func(t testing.TB, args ...string) (stdout, stderr string, code int)
}

// python is an interpreter that has the distribution's cryptography; "" where there is none.
var python = sync.OnceValue(func() string {
	for _, p := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(p, "-c", "import cryptography, sys; sys.exit(sys.version_info < (3, 9))").Run() == nil {
			return p
		}
	}
	return ""
})

// readers are ours, and the second one where this machine has what it needs.
func readers(t testing.TB) []reader {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	all := []reader{{"holdfast", program(filepath.Join(bin, "holdfast"))}}
	if _, err := exec.LookPath("zstd"); err != nil || python() == "" {
		t.Log("the second reader is left out: apt-get install zstd python3-cryptography")
		return all
	}
	return append(all, reader{"second reader", startSecond(t, filepath.Join(bin, "age"))})
}

// program runs a program once for each call.
func program(path ...string) func(t testing.TB, args ...string) (string, string, int) {
	return func(t testing.TB, args ...string) (string, string, int) {
		t.Helper()
		var out, errs strings.Builder
		cmd := exec.CommandContext(t.Context(), path[0], append(path[1:len(path):len(path)], args...)...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatalf("%s: %v", path[0], err)
		}
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
}

// serve keeps one interpreter for all calls: starting one takes longer than most verdicts. It
// calls what the program's main calls.
const serve = `
import contextlib, io, json, sys
import second_reader
for line in sys.stdin:
    out, errs = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errs):
        sys.argv[1:] = json.loads(line)
        try:
            code = second_reader.main()
        except SystemExit as e:
            code = e.code
    print(json.dumps([out.getvalue(), errs.getvalue(), code]), flush=True)
`

func startSecond(t testing.TB, age string) func(t testing.TB, args ...string) (string, string, int) {
	t.Helper()
	cmd := exec.Command(python(), "-c", serve)
	cmd.Env = append(os.Environ(), "AGE="+age, "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+filepath.Dir(secondReader))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("second reader: %v", err)
		}
	})
	calls, results := json.NewEncoder(in), json.NewDecoder(out)
	return func(t testing.TB, args ...string) (stdout, stderr string, code int) {
		t.Helper()
		if err := errors.Join(calls.Encode(args), results.Decode(&[]any{&stdout, &stderr, &code})); err != nil {
			t.Fatalf("second reader: %v", err)
		}
		return stdout, stderr, code
	}
}

// verdict is what both print of verify --json that must agree.
type verdict struct {
	State   string `json:"state"`
	Devices []struct {
		Pinned   bool            `json:"pinned"`
		State    string          `json:"state"`
		Boots    int64           `json:"boots"`
		Leaves   int64           `json:"leaves"`
		Proven   int64           `json:"proven"`
		Findings []finding       `json:"findings"`
		Records  []recordVerdict `json:"records"`
	} `json:"devices"`
}

type recordVerdict struct {
	Record   string    `json:"record"`
	Deleted  bool      `json:"deleted"`
	State    string    `json:"state"`
	Findings []finding `json:"findings"`
	Segments []struct {
		Rule    string `json:"rule"`
		Ignored bool   `json:"ignored"`
	} `json:"segments"`
}

type finding struct {
	Rule string `json:"rule"`
}

func (v *verdict) rules() (rules []string) {
	for _, d := range v.Devices {
		for _, f := range d.Findings {
			rules = append(rules, f.Rule)
		}
		for _, r := range d.Records {
			for _, f := range r.Findings {
				rules = append(rules, f.Rule)
			}
			for _, s := range r.Segments {
				if s.Rule != "" && !s.Ignored {
					rules = append(rules, s.Rule)
				}
			}
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// summary is what two readers must say alike, as text.
func (v *verdict) summary() string {
	var b strings.Builder
	for _, d := range v.Devices {
		fmt.Fprintf(&b, "%s pinned=%v boots=%d leaves=%d proven=%d:", d.State, d.Pinned, d.Boots, d.Leaves, d.Proven)
		slices.SortFunc(d.Records, func(a, b recordVerdict) int { return strings.Compare(a.Record[1:]+a.Record, b.Record[1:]+b.Record) })
		for i, r := range d.Records {
			if i > 0 && r.Record == d.Records[i-1].Record { // ours lists one twice that has two leaves K
				continue
			}
			state := custody.Verdict(r.State)
			for _, again := range d.Records[i+1:] {
				if again.Record == r.Record {
					state = state.Worse(custody.Verdict(again.State))
				}
			}
			if !r.Deleted { // ours lists what is left of deleted ones
				fmt.Fprintf(&b, " %s %s", r.Record, state)
			}
		}
	}
	return b.String()
}

// call runs a command; whatever it has to say to the user is one line.
func (r reader) call(t testing.TB, args ...string) (stdout string, code int) {
	t.Helper()
	out, errs, code := r.run(t, args...)
	if strings.Contains(errs, "Traceback") || strings.Contains(errs, "goroutine ") || strings.Count(errs, "\n") > 1 {
		t.Errorf("%s %v: more than one line: %s", r.name, args, errs)
	}
	return out, code
}

// verify runs verify and wants JSON.
func (r reader) verify(t testing.TB, args ...string) (*verdict, int) {
	t.Helper()
	out, code := r.call(t, append([]string{"verify", "--json"}, args...)...)
	v := &verdict{}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("%s verify: exit code %d, no JSON: %v: %s", r.name, code, err, out)
	}
	return v, code
}

// open opens everything and returns the frames in place and those apart. It holds the audit
// against v.
func (r reader) open(t testing.TB, v *Vector, dir string, args ...string) (inPlace, apart [][]byte, code int) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	_, code = r.call(t, append([]string{"open", dir, "-o", out}, args...)...)
	r.auditOf(t, v, out)
	if got := sealedToOthers(t, out); v.Sealed != "" && got != v.Sealed {
		t.Errorf("%s open: streams sealed to others: %s, want %s", r.name, got, v.Sealed)
	}
	return tlogs(t, out, "????????/[FG]????????/telemetry.tlog"), tlogs(t, out, "????????/[FG]????????/unverified/telemetry.tlog"), code
}

// sealedToOthers returns the letters of the streams that flight.json of any record names so.
func sealedToOthers(t testing.TB, out string) (letters string) {
	t.Helper()
	named := map[rune]bool{}
	for _, name := range opened(t, out, "????????/[FG]????????/flight.json") {
		var summary struct {
			Rows []struct {
				Streams  string `json:"streams"`
				Segments int    `json:"segments"`
				Bytes    int64  `json:"bytes"`
			} `json:"sealed_to_others"`
		}
		p, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(p, &summary)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range summary.Rows {
			for _, letter := range row.Streams {
				named[letter] = true
			}
			if row.Segments < len(row.Streams) || row.Bytes <= 0 {
				t.Errorf("%s: %+v", name, row)
			}
		}
	}
	for _, letter := range "TVPAX" {
		if named[letter] {
			letters += string(letter)
		}
	}
	if letters == "" {
		return "none"
	}
	return letters
}

// auditOf holds the lines of stream X in what was opened against the vector.
func (r reader) auditOf(t testing.TB, v *Vector, out string) {
	t.Helper()
	for pattern, want := range map[string]string{"????????/[FG]????????/audit.jsonl": v.Audit, "????????/[FG]????????/unverified/audit.jsonl": v.UnverifiedAudit} {
		if got := attemptLines(t, out, pattern); want != "" && framesHash(got) != want {
			t.Errorf("%s open: the %d attempts in %s are not those expected", r.name, len(got), pattern)
		}
	}
}

// attemptLines returns the attempts of all files that match, in the form in which they were sealed.
// Ours adds keys to them, and lines about events; the second reader writes the lines alone.
func attemptLines(t testing.TB, out, pattern string) (lines [][]byte) {
	t.Helper()
	for _, name := range opened(t, out, pattern) {
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(p) {
			var event struct{ Event string }
			a := &evidence.Attempt{}
			if err := errors.Join(json.Unmarshal(line, &event), json.Unmarshal(line, a)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if event.Event != "" && event.Event != "attempt" {
				continue
			}
			sealed, err := evidence.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, sealed)
		}
	}
	return lines
}

// opened are the files that match, in the order of the records' numbers.
func opened(t testing.TB, out, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(out, pattern))
	if err != nil {
		t.Fatal(err)
	}
	number := func(name string) string { return strings.Split(name[len(out)+1:], "/")[1][1:] }
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(number(a), number(b)) })
	return files
}

// tlogs returns the frames of all files that match, in the order of the records' numbers.
func tlogs(t testing.TB, out, pattern string) (frames [][]byte) {
	t.Helper()
	for _, name := range opened(t, out, pattern) {
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for len(p) > 0 {
			n := 0
			if len(p) > 18 {
				n = mavlink.SpanSize(p[8:])
			}
			if n == 0 || 8+n > len(p) {
				t.Fatalf("%s: no tlog entry %d bytes before its end", name, len(p))
			}
			frames = append(frames, p[8:8+n])
			p = p[8+n:]
		}
	}
	return frames
}

// unpackTo writes the vault and what goes with it to disk, and returns the flags for both commands.
func (v *Vector) unpackTo(t testing.TB, dir string) (vault string, flags, identities []string) {
	t.Helper()
	vault = filepath.Join(dir, "vault")
	write := func(name string, data []byte) string {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return full
	}
	for name, data := range v.Tree {
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(filepath.Join(vault, filepath.FromSlash(name)), 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write("vault/"+name, data)
	}
	if v.PinnedKey != "" {
		flags = append(flags, "--device-key", write("pinned.pub", []byte(v.PinnedKey+"\n")))
	}
	if len(v.Head) > 0 {
		flags = append(flags, "--head", write("head", v.Head))
	}
	for i, id := range v.Identities {
		identities = append(identities, "-i", write(fmt.Sprintf("id%d.key", i), []byte(id+"\n")))
	}
	return vault, flags, identities
}

func forEachVector(t *testing.T, f func(t *testing.T, v *Vector)) {
	files, err := os.ReadDir(vectorsDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range files {
		if strings.HasSuffix(e.Name(), ".md") {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(vectorsDir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			v, err := ParseVector(data)
			if err != nil {
				t.Fatal(err)
			}
			f(t, v)
		})
	}
}

// TestReaders holds each reader against the header of each vector, and the readers against
// each other.
func TestReaders(t *testing.T) {
	rs := readers(t)
	forEachVector(t, func(t *testing.T, v *Vector) {
		vault, flags, identities := v.unpackTo(t, t.TempDir())
		said := make([]string, len(rs))
		for i, r := range rs {
			got, code := r.verify(t, append([]string{vault}, flags...)...)
			said[i] = got.summary()
			if code != v.Exit || got.State != v.State {
				t.Errorf("%s verify: exit code %d, state %s, rules %v; want %d, %s, %s", r.name, code, got.State, got.rules(), v.Exit, v.State, v.Rule)
			}
			if v.Rule != "" && !slices.Contains(got.rules(), v.Rule) {
				t.Errorf("%s verify: findings of rules %v, want %s", r.name, got.rules(), v.Rule)
			}
			if v.Exit == 0 && len(got.rules()) > 0 {
				t.Errorf("%s verify: findings of rules %v, want none", r.name, got.rules())
			}
			r.checkOpen(t, v, vault, identities)
		}
		if len(rs) == 2 && said[0] != said[1] {
			t.Errorf("the readers differ:\n%s\n%s", said[0], said[1])
		}
	})
}

func (r reader) checkOpen(t *testing.T, v *Vector, vault string, flags []string) {
	t.Helper()
	if v.PinnedKey != "" || len(v.Head) > 0 {
		return // open is told of neither
	}
	inPlace, apart, code := r.open(t, v, vault, flags...)
	if code != v.Exit {
		t.Errorf("%s open: exit code %d, want %d", r.name, code, v.Exit)
	}
	if v.Frames != "" && framesHash(inPlace) != v.Frames {
		t.Errorf("%s open: the %d frames in place are not those expected", r.name, len(inPlace))
	}
	if v.Unverified != "" && framesHash(apart) != v.Unverified {
		t.Errorf("%s open: the %d frames below unverified are not those expected", r.name, len(apart))
	}
}

// TestRules: each rule has a vector that must be rejected by it, and there are vectors that
// must be accepted.
func TestRules(t *testing.T) {
	rules, accepted := map[string]bool{}, 0
	forEachVector(t, func(t *testing.T, v *Vector) {
		if v.Expect == "reject" {
			rules[v.Rule] = true
		} else {
			accepted++
		}
	})
	for i := range 17 {
		if rule := fmt.Sprintf("V%d", i+1); !rules[rule] {
			t.Errorf("no vector is rejected by %s", rule)
		}
	}
	if accepted < 20 {
		t.Errorf("%d vectors are to be accepted", accepted)
	}
}
