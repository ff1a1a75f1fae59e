package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Vector is one scenario: a vault, and what a reader must say about it.
type Vector struct {
	Comment    []string
	Expect     string // accept (exit code 0 or 3) or reject (4)
	State      string // the worst state of all, as verify names it
	Exit       int    // exit code of verify
	Rule       string // V1 to V17, of which a finding must speak; empty where there is none
	PinnedKey  string // verifier line given as --device-key; empty: none
	Head       []byte // checkpoint given as --head; empty: none
	Identities []string
	// Frames is the SHA-256, in hex, of all MAVLink frames in order that open puts into
	// telemetry.tlog; Unverified is that of those below unverified/. Empty: nothing is said.
	Frames, Unverified string
	// Audit and UnverifiedAudit are the same of the lines of stream X, as they were sealed.
	Audit, UnverifiedAudit string
	// Sealed has the letters of the streams that no identity given opens, of all records, in the
	// order TVPAX. "none": everything opens. Empty: nothing is said.
	Sealed string
	// Files is the SHA-256 of what stands in streams A, V and P of segments in place, and Sent that
	// of the content of all frames of sent; README.md of the vectors says how.
	Files, Sent string
	Tree        map[string][]byte // files of the vault by their slash-separated path; folders end in /
}

const (
	maxVectorHeader = 128 << 10
	maxVectorFile   = 4 << 20
	maxVectorFiles  = 1000
)

// ErrVector means bytes that are no vector.
var ErrVector = errors.New("no vector")

// Format returns v as it stands in a file: header, empty line, gzip-compressed tar.
func (v *Vector) Format() ([]byte, error) {
	var out bytes.Buffer
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%s: %s\n", key, value)
		}
	}
	for _, c := range v.Comment {
		line("comment", c)
	}
	line("expect", v.Expect)
	line("state", v.State)
	line("exit", strconv.Itoa(v.Exit))
	line("rule", v.Rule)
	line("pinned-key", v.PinnedKey)
	line("head", hex.EncodeToString(v.Head))
	for _, id := range v.Identities {
		line("identity", id)
	}
	line("frames-sha256", v.Frames)
	line("unverified-sha256", v.Unverified)
	line("audit-sha256", v.Audit)
	line("unverified-audit-sha256", v.UnverifiedAudit)
	line("sealed-to-others", v.Sealed)
	line("files-sha256", v.Files)
	line("sent-sha256", v.Sent)
	out.WriteByte('\n')
	if err := v.pack(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (v *Vector) pack(w io.Writer) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(v.Tree)) {
		h := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(v.Tree[name])), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o700
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(v.Tree[name]); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// ParseVector reads a vector. All else is ErrVector.
func ParseVector(data []byte) (*Vector, error) {
	head, body, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok || len(head) > maxVectorHeader {
		return nil, fmt.Errorf("%w: no header", ErrVector)
	}
	v := &Vector{}
	s := bufio.NewScanner(bytes.NewReader(head))
	s.Buffer(nil, maxVectorHeader+1)
	for s.Scan() {
		key, value, ok := strings.Cut(s.Text(), ": ")
		if !ok || value == "" {
			return nil, fmt.Errorf("%w: header line %q", ErrVector, s.Text())
		}
		if err := v.set(key, value); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrVector, key, err)
		}
	}
	if err := errors.Join(s.Err(), v.check(), v.unpack(body)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVector, err)
	}
	return v, nil
}

func (v *Vector) set(key, value string) (err error) {
	one := map[string]*string{"expect": &v.Expect, "state": &v.State, "rule": &v.Rule, "pinned-key": &v.PinnedKey,
		"frames-sha256": &v.Frames, "unverified-sha256": &v.Unverified,
		"audit-sha256": &v.Audit, "unverified-audit-sha256": &v.UnverifiedAudit, "sealed-to-others": &v.Sealed,
		"files-sha256": &v.Files, "sent-sha256": &v.Sent}
	switch key {
	case "comment":
		v.Comment = append(v.Comment, value)
	case "identity":
		v.Identities = append(v.Identities, value)
	case "exit":
		v.Exit, err = strconv.Atoi(value)
	case "head":
		v.Head, err = hex.DecodeString(value)
	default:
		p := one[key]
		if p == nil || *p != "" {
			return errors.New("unknown or there twice")
		}
		*p = value
	}
	return err
}

// check holds the header to itself: what is rejected names a rule, what is accepted does not end
// with the exit code of a rejection.
func (v *Vector) check() error {
	switch {
	case v.Expect != "accept" && v.Expect != "reject", (v.Expect == "reject") != (v.Exit == 4):
		return errors.New("expect and exit do not fit")
	case v.Expect == "reject" && v.Rule == "":
		return errors.New("a rejection without a rule")
	case v.State == "" || len(v.Comment) == 0:
		return errors.New("no state or no comment")
	}
	return nil
}

func (v *Vector) unpack(body []byte) error {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return err
	}
	v.Tree = map[string][]byte{}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF { // the checksum of gzip stands behind it
			_, err = io.CopyN(io.Discard, z, maxVectorFile)
			if err == io.EOF {
				err = nil
			}
			return err
		}
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(h.Name, "/")
		if len(v.Tree) >= maxVectorFiles || h.Size > maxVectorFile || !cleanPath(name) || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			return fmt.Errorf("file %q is not one of a vault", h.Name)
		}
		if v.Tree[h.Name], err = io.ReadAll(t); err != nil {
			return err
		}
	}
}

// cleanPath tells a relative path that leads nowhere else.
func cleanPath(name string) bool {
	return name != "" && path.Clean("/"+name) == "/"+name && !strings.ContainsAny(name, "\\:\x00")
}
