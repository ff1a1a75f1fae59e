package imports

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// resolving are the names of package net that look a name up, or can be made to by what they are
// given: endpoints are IP literals, which package netip reads and which need none of these.
var resolving = []string{"Dial", "DialTimeout", "DialIP", "Listen", "ListenPacket", "ListenConfig", "Resolver", "DefaultResolver",
	"ResolveTCPAddr", "ResolveUDPAddr", "ResolveIPAddr", "Dialer"}

// literal are the places that use one of them all the same, with a netip.AddrPort and nothing else.
var literal = map[string][]string{"mavlink/link/net_linux.go": {"Dialer"}}

// tools are packages of the bench and of tests, in no program that records or opens.
var tools = []string{"cmd/holdfast-bench/", "cmd/internal/", "firmware/netlock/nstest/"}

// TestNoNames: no code of ours that is part of holdfast or holdfastd resolves a name.
func TestNoNames(t *testing.T) {
	used := map[string]bool{}
	seen := 0
	err := filepath.WalkDir(root(t), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (strings.HasPrefix(e.Name(), ".") && path != root(t) || e.Name() == "testdata") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		name, err := filepath.Rel(root(t), path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if slices.ContainsFunc(tools, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		seen++
		for _, n := range resolves(file) {
			if !slices.Contains(literal[name], n) {
				t.Errorf("%s uses net.%s: an endpoint must be an IP literal, read by package netip", name, n)
			}
			used[name+" "+n] = true
		}
		return nil
	})
	if err != nil || seen < 50 {
		t.Fatalf("%d files: %v", seen, err)
	}
	for name, all := range literal {
		for _, n := range all {
			if !used[name+" "+n] {
				t.Errorf("%s no longer uses net.%s: take it off the list", name, n)
			}
		}
	}
}

// resolves lists what a file uses of package net, by whatever name it imports that.
func resolves(file *ast.File) (names []string) {
	pkg := ""
	for _, i := range file.Imports {
		if path, err := strconv.Unquote(i.Path.Value); err != nil || path != "net" {
			continue
		}
		if pkg = "net"; i.Name != nil {
			pkg = i.Name.Name
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && pkg != "" && x.Name == pkg &&
			(slices.Contains(resolving, s.Sel.Name) || strings.HasPrefix(s.Sel.Name, "Lookup")) {
			names = append(names, s.Sel.Name)
		}
		return true
	})
	if pkg == "." {
		names = append(names, "everything")
	}
	return names
}

func TestResolves(t *testing.T) {
	for src, want := range map[string]string{
		`package p; import "net"; var _ = net.LookupHost`:           "LookupHost",
		`package p; import n "net"; var _, _ = n.Dial, n.ParseIP`:   "Dial",
		`package p; import "net"; var d net.Dialer`:                 "Dialer",
		`package p; import . "net"; var _ = LookupHost`:             "everything",
		`package p; import "net/netip"; var _ = netip.ParseAddr`:    "",
		`package p; import net "os"; var _ = net.Open; var x = 1`:   "",
		`package p; import "net"; var _ = net.TCPAddrFromAddrPort`:  "",
		`package p; import "net"; var _ = net.DefaultResolver.Dial`: "DefaultResolver",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "p.go", src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(resolves(file), " "); got != want {
			t.Errorf("%s: %q, want %q", src, got, want)
		}
	}
}
