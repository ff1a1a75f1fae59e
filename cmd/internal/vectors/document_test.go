package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
)

// appendix returns the section of the specification that begins with the heading.
func appendix(t *testing.T, heading string) string {
	t.Helper()
	doc, err := os.ReadFile(root + "/docs/format/v1.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "\n"+heading)
	if !ok {
		t.Fatalf("no section %q", heading)
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	return section
}

// fenced returns the blocks between ``` lines.
func fenced(section string) (blocks []string) {
	parts := strings.Split(section, "```\n")
	for i := 1; i < len(parts); i += 2 {
		blocks = append(blocks, parts[i])
	}
	return blocks
}

func TestDocumentReadme(t *testing.T) {
	section := appendix(t, "## Appendix A.")
	blocks := fenced(section)
	if len(blocks) != 1 || blocks[0] != string(readmeText()) {
		t.Fatal("appendix A is not README.txt")
	}
	h := sha256.Sum256(readmeText())
	if !strings.Contains(section, hex.EncodeToString(h[:])) {
		t.Error("appendix A has another SHA-256")
	}
}

// TestDocumentExample reads the example out of the specification, with nothing else at hand.
func TestDocumentExample(t *testing.T) {
	section := appendix(t, "## Appendix B.")
	line := regexp.MustCompile(`holdfast-[0-9a-f]{8}\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+`).FindString(section)
	device, err := keys.DeviceIDOf(line)
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for _, l := range regexp.MustCompile(`(?m)^    ([0-9a-f]+)$`).FindAllStringSubmatch(section, -1) {
		raw = append(raw, must(hex.DecodeString(l[1]))...)
	}
	var tree custody.Frontier
	r := custody.NewReader(bytes.NewReader(raw))
	kinds := ""
	for {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Entry(); err != nil {
			t.Error(err)
		}
		h := l.Hash()
		if !strings.Contains(section, hex.EncodeToString(h[:])) {
			t.Errorf("leaf %d: its hash is %x", tree.Size(), h)
		}
		tree.Add(h)
		kinds += l.Kind.String()
	}
	blocks := fenced(section)
	if kinds != "BL" || len(blocks) != 2 || !strings.Contains(string(raw), strings.TrimSuffix(blocks[0], "\n")) {
		t.Fatalf("leaves %s, %d blocks", kinds, len(blocks))
	}
	c, err := custody.ParseCheckpoint([]byte(blocks[1]))
	if err != nil {
		t.Fatal(err)
	}
	if c.Device != device || c.Size != tree.Size() || c.Root != tree.Root() || c.LogBytes != int64(len(raw)) {
		t.Errorf("the checkpoint is of other leaves: %+v", c)
	}
	b := started()
	if !bytes.Equal(b.log, raw) || string(b.file("LOG/cp.A")) != blocks[1] {
		t.Error("the generator begins with other leaves")
	}
}
