package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// programs are those that people run on the board and on their laptops.
var programs = []string{"cmd/holdfastd", "cmd/holdfast"}

// clients is what could fetch, send or look up a name without anybody having written it: what
// no program of ours may hold, whoever brings it.
var clients = []string{"net/http", "net/http/...", "crypto/tls", "net/rpc", "net/smtp", "net/mail", "log/syslog", "expvar", "net/http/pprof",
	"golang.org/x/net/http2", "golang.org/x/net/proxy", "google.golang.org/grpc/..."}

// lookups are the functions and types of package net that turn a name into an address, or do so
// with what they are given. Addresses of ours are IP literals.
var lookups = []string{"LookupAddr", "LookupCNAME", "LookupHost", "LookupIP", "LookupMX", "LookupNS", "LookupPort", "LookupSRV", "LookupTXT",
	"ResolveIPAddr", "ResolveTCPAddr", "ResolveUDPAddr", "ResolveUnixAddr", "Resolver", "DefaultResolver", "Dial", "DialTimeout", "Listen", "ListenPacket", "ListenConfig"}

// dialers may appear only where the reason is given: each takes addresses that were parsed as
// IP literals before.
var dialers = map[string]string{
	"mavlink/link": "Dialer and ListenUDP with a netip.AddrPort of loopback, for the bench",
}

// unit is a package as go list tells of it.
type unit struct {
	ImportPath, Dir string
	GoFiles         []string
	Standard        bool
}

// reach lists all that a program is made of.
func reach(t *testing.T, program, overlay string) (units []unit) {
	t.Helper()
	args := []string{"list", "-e", "-deps", "-json=ImportPath,Dir,GoFiles,Standard"}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.Command("go", append(args, "./"+program)...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var u unit
		err := d.Decode(&u)
		if errors.Is(err, io.EOF) {
			return units
		}
		if err != nil {
			t.Fatal(err)
		}
		units = append(units, u)
	}
}

// clientsIn names what of clients a program holds.
func clientsIn(units []unit) (found []string) {
	for _, u := range units {
		if matchAny(clients, u.ImportPath) {
			found = append(found, u.ImportPath)
		}
	}
	return found
}

// lookupsIn names the places in which code of ours looks up names, or could.
func lookupsIn(t *testing.T, units []unit, replaced map[string]string) (found []string) {
	t.Helper()
	for _, u := range units {
		short, ours := strings.CutPrefix(u.ImportPath, module)
		if !ours || u.Standard {
			continue
		}
		for _, name := range u.GoFiles {
			path := filepath.Join(u.Dir, name)
			if real, ok := replaced[path]; ok {
				path = real
			}
			for _, use := range netUses(t, path) {
				_, excused := dialers[short]
				if slices.Contains(lookups, use) || use == "Dialer" && !excused {
					found = append(found, fmt.Sprintf("%s: %s uses net.%s", short, name, use))
				}
			}
		}
	}
	return found
}

// netUses lists what a file uses of package net, by whatever name it imports it.
func netUses(t *testing.T, path string) (uses []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	for _, i := range f.Imports {
		if i.Path.Value != `"net"` {
			continue
		}
		if name = "net"; i.Name != nil {
			name = i.Name.Name
		}
	}
	if name == "" {
		return nil
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == name {
				uses = append(uses, s.Sel.Name)
			}
		}
		return true
	})
	return uses
}

// TestNothingNeedsANetwork: no program holds a client of HTTP, TLS or anything like it, and no
// code of ours resolves a name.
func TestNothingNeedsANetwork(t *testing.T) {
	for _, program := range programs {
		units := reach(t, program, "")
		if len(units) < 100 {
			t.Fatalf("%s is made of %d packages: go list tells too little", program, len(units))
		}
		for _, found := range clientsIn(units) {
			t.Errorf("%s holds %s", program, found)
		}
		for _, found := range lookupsIn(t, units, nil) {
			t.Errorf("%s: %s", program, found)
		}
	}
}

// Each of these breaks the rule in a file that exists only in an overlay.
func TestNetworkIsFound(t *testing.T) {
	for _, tc := range []struct{ program, dir, text, want string }{
		{"cmd/holdfastd", "boards", "import _ \"net/http\"", "net/http"},
		{"cmd/holdfast", "storage/segment", "import _ \"crypto/tls\"", "crypto/tls"},
		{"cmd/holdfastd", "boards", "import \"net\"\nvar _, _ = net.LookupHost(\"localhost\")", "boards: breach.go uses net.LookupHost"},
		{"cmd/holdfastd", "firmware/status", "import n \"net\"\nvar _ = n.Resolver{}", "firmware/status: breach.go uses net.Resolver"},
		{"cmd/holdfast", "boards", "import \"net\"\nvar _ net.Dialer", "boards: breach.go uses net.Dialer"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			path := filepath.Join(root(t), tc.dir, "breach.go")
			file := overlay(t, path, fmt.Sprintf("package %s\n\n%s\n", filepath.Base(tc.dir), tc.text))
			units := reach(t, tc.program, file)
			found := append(clientsIn(units), lookupsIn(t, units, map[string]string{path: filepath.Join(filepath.Dir(file), "breach.go")})...)
			if !slices.Contains(found, tc.want) {
				t.Errorf("not found: %s\nfound: %s", tc.want, strings.Join(found, "\n"))
			}
		})
	}
}
