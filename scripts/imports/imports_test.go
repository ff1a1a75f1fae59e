package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "holdfast/"

// A rule is one row of the table. A pattern ending in "/..." also takes everything below.
// In pkg and ours names are paths below the module. In the other fields packages of anybody
// may stand, so there ours begin with "./" (crypto/... is the standard library's, too).
type rule struct {
	pkg    string   // the package, or a pattern
	ours   []string // what it may import of ours
	direct []string // what its own files must not import
	never  []string // what it must not reach, however far away
	except []string // what of never is allowed all the same
}

// noIO keeps files, processes and networks out of code that gets readers and clocks handed in.
var noIO = []string{"os", "os/exec", "net", "syscall"}

// noClient keeps out what could fetch or send without anybody having written it.
var noClient = []string{"net/http", "crypto/tls"}

// onBoard is what no code that runs on the board may reach: the means to open a record.
var onBoard = []string{"./crypto/open", "./cmd/holdfast/..."}

// part is what a part of the firmware may import: never a sibling.
var part = []string{"mavlink/...", "storage/...", "crypto/keys", "crypto/seal", "crypto/custody", "boards"}

// table is searched from the top; the first row that fits a package counts.
var table = []rule{
	{pkg: "mavlink/serial", direct: noClient},
	{pkg: "mavlink/serial/serialtest", ours: []string{"mavlink/serial"}},
	{pkg: "mavlink", ours: []string{"mavlink/..."}, direct: noIO},
	{pkg: "mavlink/names", ours: []string{"mavlink"}, direct: noIO},
	{pkg: "mavlink/tlog", ours: []string{"mavlink"}, direct: noIO},
	{pkg: "mavlink/codec", ours: []string{"mavlink"}, direct: noIO},
	{pkg: "mavlink/link", ours: []string{"mavlink/..."}, never: noClient},
	{pkg: "mavlink/vehicle", ours: []string{"mavlink/..."}, direct: noIO},

	{pkg: "crypto/internal/memscan", never: noClient}, // for tests alone
	{pkg: "crypto/keys", direct: noIO, never: []string{"./crypto/open"}},
	{pkg: "crypto/seal", ours: []string{"crypto/keys"}, direct: noIO, never: []string{"./crypto/open"}},
	{pkg: "crypto/custody", ours: []string{"crypto/keys"}, direct: noIO, never: slices.Concat([]string{"./crypto/open", "./crypto/seal", "./storage/...", "./firmware/..."}, noClient)},
	{pkg: "crypto/open", ours: []string{"crypto/keys"}, direct: noIO, never: []string{"./storage/...", "./firmware/..."}},

	{pkg: "storage/segment", direct: noIO},
	{pkg: "storage/vault", ours: []string{"crypto/keys", "crypto/seal", "crypto/custody", "storage/segment"},
		never: []string{"./mavlink/...", "./crypto/open", "./firmware/..."}},
	{pkg: "storage/storagetest", ours: []string{"storage/vault"}, never: []string{"./mavlink/...", "./crypto/open", "./firmware/..."}},
	{pkg: "storage/retrieve", ours: []string{"storage/vault", "crypto/custody"}, never: []string{"./mavlink/...", "./firmware/..."}},

	{pkg: "firmware", ours: slices.Concat([]string{"firmware/..."}, part), never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/config", ours: []string{"boards"}, never: []string{"./mavlink/...", "./crypto/...", "./storage/..."}},
	{pkg: "firmware/confine", never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/evidence", direct: noIO}, // what guard and recorder tell each other: types alone
	{pkg: "firmware/autopilot/aplog", ours: []string{"mavlink", "storage/segment"}, direct: noIO, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/evidence", direct: noIO},                                           // what guard and recorder tell each other: types alone
	{pkg: "firmware/mediapipe", direct: noIO, never: slices.Concat(onBoard, noClient)}, // what media process and recorder tell each other
	{pkg: "firmware/mediafifo", ours: []string{"firmware/mediapipe"}, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/media", ours: []string{"firmware/mediapipe", "firmware/media/v4l2"}, never: slices.Concat(onBoard, noClient, []string{"./storage/...", "./crypto/...", "./mavlink/..."})},
	{pkg: "firmware/media/v4l2/v4l2test", ours: []string{"firmware/media/v4l2"}}, // for tests alone
	{pkg: "firmware/media/v4l2", never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/recorder", ours: slices.Concat(part, []string{"firmware/evidence", "firmware/mediapipe"}), never: onBoard},
	{pkg: "firmware/runfile", ours: []string{"firmware/evidence"}, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/rundir", ours: []string{"firmware/evidence", "firmware/recorder", "firmware/runfile"}, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/guard", ours: []string{"firmware/evidence", "firmware/runfile", "crypto/keys", "crypto/custody"}, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/confine", never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/netlock/nstest", never: noClient}, // for tests alone
	{pkg: "firmware/netlock", ours: []string{"firmware/evidence", "firmware/netlock/..."}, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/netlock/attempts", ours: []string{"firmware/evidence"}, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/netlock/nflog", ours: []string{"firmware/netlock/nft"}, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/netlock/...", never: slices.Concat(onBoard, noClient)}, // bpf, nft, host: the kernel's side, none of ours
	{pkg: "firmware/autopilot/camera", ours: slices.Concat(part, []string{"firmware/autopilot/allow"}), never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/share", ours: part, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/autopilot/allow", ours: []string{"mavlink/..."}, direct: noIO},
	{pkg: "firmware/autopilot", ours: []string{"mavlink/...", "storage/segment", "firmware/autopilot/allow"}, direct: noIO, never: slices.Concat(onBoard, noClient)},
	{pkg: "firmware/status", ours: part, never: onBoard},

	{pkg: "boards", direct: []string{"os", "net"}},

	{pkg: "cmd/internal/cli", never: noClient},
	{pkg: "cmd/holdfastd", ours: []string{"firmware/...", "boards", "cmd/internal/cli", "crypto/keys"}, never: slices.Concat(onBoard, noClient)},
	{pkg: "cmd/holdfast/...", ours: []string{"mavlink/...", "crypto/...", "storage/...", "boards", "firmware/config", "firmware/evidence", "cmd/internal/cli", "cmd/holdfast/internal/..."},
		never: slices.Concat([]string{"./firmware/..."}, noClient), except: []string{"./firmware/config", "./firmware/evidence"}},
	{pkg: "cmd/holdfast-bench/...", ours: []string{"..."}},
	{pkg: "cmd/internal/e2e", ours: []string{"..."}},            // tests of whole programs; in no program
	{pkg: "cmd/internal/wholebench/...", ours: []string{"..."}}, // measures whole programs; in no program
	{pkg: "cmd/internal/vectors", ours: []string{"..."}},        // makes the test vectors; in no program
	{pkg: "cmd/internal/guest/...", ours: []string{"..."}},      // what runs in the guest of a power cut; in no program

	{pkg: "scripts/imports"},
	{pkg: "scripts/systemd"}, // tests of the units
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

// list asks go list about every package of the module for one system. overlay may be empty.
func list(t *testing.T, goos, overlay string) []pkg {
	t.Helper()
	args := []string{"list", "-e", "-deps", "-json=ImportPath,Imports,Deps"}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.Command("go", append(args, "./...")...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.ImportPath, module) {
			pkgs = append(pkgs, p)
		}
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// check returns one line for each breach of the table.
func check(pkgs []pkg) []string {
	var breaches []string
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, module)
		i := slices.IndexFunc(table, func(r rule) bool { return match(r.pkg, name) })
		if i < 0 {
			breaches = append(breaches, name+" is not in the table: name it and what it may import")
			continue
		}
		breaches = append(breaches, table[i].check(name, p)...)
	}
	return breaches
}

func (r rule) check(name string, p pkg) []string {
	var breaches []string
	for _, path := range p.Imports {
		short, ours := strings.CutPrefix(path, module)
		if ours && !matchAny(r.ours, short) {
			breaches = append(breaches, fmt.Sprintf("%s imports %s, which the table does not allow", name, short))
		}
		if matchAny(r.direct, marked(path)) {
			breaches = append(breaches, fmt.Sprintf("%s imports %s itself", name, short))
		}
	}
	for _, path := range p.Deps {
		if matchAny(r.never, marked(path)) && !matchAny(r.except, marked(path)) {
			breaches = append(breaches, fmt.Sprintf("%s reaches %s", name, strings.TrimPrefix(path, module)))
		}
	}
	return breaches
}

// marked turns the module's own paths into "./" and the rest.
func marked(path string) string {
	if short, ours := strings.CutPrefix(path, module); ours {
		return "./" + short
	}
	return path
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name) })
}

func match(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	prefix, open := strings.CutSuffix(pattern, "/...")
	return name == prefix || open && strings.HasPrefix(name, prefix+"/")
}

// The systems differ in their files, so each is listed on its own.
func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, breach := range check(list(t, goos, "")) {
			t.Errorf("%s: %s", goos, breach)
		}
	}
}

// Each wall is broken on purpose by a file that exists only in an overlay. Without this a
// check that looks at nothing would pass.
func TestBreachesAreFound(t *testing.T) {
	tests := []struct {
		dir, imports string
		want         string
	}{
		{"boards", "holdfast/firmware/config", "boards imports firmware/config, which the table does not allow"},
		{"boards", "os", "boards imports os itself"},
		{"crypto/keys", "os", "crypto/keys imports os itself"},
		{"crypto/seal", "holdfast/crypto/open", "crypto/seal reaches crypto/open"},
		{"crypto/custody", "os", "crypto/custody imports os itself"},
		{"crypto/custody", "holdfast/storage/segment", "crypto/custody reaches storage/segment"},
		{"crypto/custody", "holdfast/crypto/open", "crypto/custody reaches crypto/open"},
		{"storage/vault", "holdfast/mavlink", "storage/vault reaches mavlink"},
		{"storage/vault", "holdfast/crypto/open", "storage/vault imports crypto/open, which the table does not allow"},
		{"firmware/config", "holdfast/mavlink", "firmware/config reaches mavlink"},
		{"firmware/config", "holdfast/crypto/open", "firmware/config reaches crypto/open"},
		{"firmware/config", "holdfast/crypto/open", "cmd/holdfastd reaches crypto/open"},
		{"firmware/recorder", "holdfast/firmware/config", "firmware/recorder imports firmware/config, which the table does not allow"},
		{"cmd/holdfast", "holdfast/firmware/recorder", "cmd/holdfast reaches firmware/recorder"},
		{"boards", "net/http", "cmd/holdfastd reaches net/http"},
		{"firmware/newpart", "fmt", "firmware/newpart is not in the table: name it and what it may import"},
	}
	for _, tt := range tests {
		t.Run(tt.dir+" "+tt.imports, func(t *testing.T) {
			name := filepath.Base(tt.dir)
			if strings.HasPrefix(tt.dir, "cmd/") {
				name = "main"
			}
			overlay := overlay(t, filepath.Join(root(t), tt.dir, "breach.go"),
				fmt.Sprintf("package %s\n\nimport _ %q\n", name, tt.imports))
			if found := check(list(t, "linux", overlay)); !slices.Contains(found, tt.want) {
				t.Errorf("not found: %s\nfound: %s", tt.want, strings.Join(found, "\n"))
			}
		})
	}
}

// overlay makes the go command see a file at path that is not there.
func overlay(t *testing.T, path, text string) string {
	t.Helper()
	dir := t.TempDir()
	source, list := filepath.Join(dir, "breach.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: source}})
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{source: []byte(text), list: replace} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return list
}
