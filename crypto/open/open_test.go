package open_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"holdfast/crypto/keys"
	"holdfast/crypto/open"
)

// person has an identity and its recipient line.
type person struct {
	id  age.Identity
	rec string
}

func newPerson(t testing.TB, classical bool) person {
	t.Helper()
	secret, rec, err := keys.GenerateIdentity(classical)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := keys.ParseIdentities(strings.NewReader(secret))
	if err != nil {
		t.Fatal(err)
	}
	return person{ids[0], rec}
}

func newSSHPerson(t testing.TB) person {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	block, err := ssh.MarshalPrivateKey(key, "somebody")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := keys.ParseIdentities(bytes.NewReader(pem.EncodeToMemory(block)))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return person{ids[0], string(ssh.MarshalAuthorizedKey(pub))}
}

func newFlight(t testing.TB, lines ...string) (*keys.FlightKey, [][]byte) {
	t.Helper()
	rs, err := keys.ParseRecipients(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.NewFlightKey(rs)
	if err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	for _, f := range k.Files {
		files = append(files, f.Data)
	}
	return k, files
}

// isFlight reports whether id opens what is sealed to the flight.
func isFlight(t testing.TB, id age.Identity, k *keys.FlightKey) bool {
	t.Helper()
	h, ok := id.(*age.HybridIdentity)
	return ok && h.Recipient().String() == k.Public
}

func TestFlight(t *testing.T) {
	pq, pq2, pq3 := newPerson(t, false), newPerson(t, false), newPerson(t, false)
	classical, classical2 := newPerson(t, true), newPerson(t, true)
	shell, stranger := newSSHPerson(t), newPerson(t, false)
	k, files := newFlight(t, classical.rec, pq.rec, pq2.rec+" + "+classical2.rec, shell.rec, pq3.rec+" + "+pq2.rec)
	if len(files) != 4 {
		t.Fatalf("%d files, want 4", len(files))
	}
	tests := []struct {
		name string
		who  []person
		want error
	}{
		{"post-quantum alone", []person{pq}, nil},
		{"classical alone", []person{classical}, nil},
		{"ssh alone", []person{shell}, nil},
		{"pair", []person{pq2, classical2}, nil},
		{"pair, other order", []person{classical2, pq2}, nil},
		{"second pair among strangers", []person{stranger, pq2, pq3}, nil},
		{"first half", []person{pq2}, open.ErrNoSecondIdentity},
		{"second half", []person{classical2}, open.ErrNoIdentity},
		{"halves of two pairs", []person{pq3, classical2}, open.ErrNoSecondIdentity},
		{"stranger", []person{stranger}, open.ErrNoIdentity},
		{"nobody", nil, open.ErrNoIdentity},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var ids []age.Identity
			for _, p := range tt.who {
				ids = append(ids, p.id)
			}
			id, err := open.New(ids...).Flight(files...)
			if !errors.Is(err, tt.want) {
				t.Fatalf("Flight: %v, want %v", err, tt.want)
			}
			if tt.want == open.ErrNoIdentity && errors.Is(err, open.ErrNoSecondIdentity) {
				t.Errorf("a second half is missing, it says, but no first one opened: %v", err)
			}
			if err == nil && !isFlight(t, id, k) {
				t.Error("not the identity of the flight")
			}
		})
	}
}

// wrap seals plain to the recipients, one inside the other, the last outermost.
func wrap(t testing.TB, plain string, times int, p person) []byte {
	t.Helper()
	r, err := keys.ParseRecipient(p.rec)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte(plain)
	for range times {
		var out bytes.Buffer
		w, err := age.Encrypt(&out, r)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(b)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b = out.Bytes()
	}
	return b
}

func TestFlightContent(t *testing.T) {
	p := newPerson(t, true)
	hybrid, _, err := keys.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	classical, rec, err := keys.GenerateIdentity(true)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		plain string
		times int
		ok    bool
	}{
		{"hybrid", hybrid + "\n", 1, true},
		{"hybrid without newline", hybrid, 1, true},
		{"classical", classical + "\n", 1, true},
		{"nested 4 deep", hybrid + "\n", 4, true},
		{"nested 5 deep", hybrid + "\n", 5, false},
		{"two identities", hybrid + "\n" + classical + "\n", 1, false},
		{"two newlines", hybrid + "\n\n", 1, false},
		{"carriage return", hybrid + "\r\n", 1, false},
		{"comment", "# flight\n" + hybrid + "\n", 1, false},
		{"recipient", rec + "\n", 1, false},
		{"plugin", "AGE-PLUGIN-YUBIKEY-1QQQQQ\n", 1, false},
		{"empty", "", 1, false},
		{"other", "telemetry", 1, false},
		{"beginning of an age file", "age-encryption.org/v1\n", 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := open.New(p.id).Flight(wrap(t, tt.plain, tt.times, p))
			switch {
			case tt.ok && (err != nil || id == nil):
				t.Errorf("Flight: %v", err)
			case !tt.ok && !errors.Is(err, open.ErrDamaged):
				t.Errorf("Flight: %v, want ErrDamaged", err)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error repeats a secret: %v", err)
			}
		})
	}
}

func TestFlightDamaged(t *testing.T) {
	p, q, stranger := newPerson(t, false), newPerson(t, true), newPerson(t, false)
	k, files := newFlight(t, p.rec, q.rec)
	cut := files[0][:len(files[0])-1]
	flipped := bytes.Clone(files[0])
	flipped[len(flipped)-1] ^= 1
	large := append(bytes.Clone(files[0]), make([]byte, keys.MaxWrappedFile)...)
	for name, bad := range map[string][]byte{"cut": cut, "flipped": flipped, "large": large, "empty": nil, "text": []byte("hello")} {
		if _, err := open.New(p.id).Flight(bad); !errors.Is(err, open.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
		if id, err := open.New(q.id).Flight(bad, files[1]); err != nil || !isFlight(t, id, k) {
			t.Errorf("%s, then a sound one: %v", name, err)
		}
		if _, err := open.New(p.id).Flight(files[1], bad); !errors.Is(err, open.ErrDamaged) {
			t.Errorf("%s, behind one that is not ours: %v, want ErrDamaged", name, err)
		}
	}
	if _, err := open.New(stranger.id).Flight(cut, files[1]); !errors.Is(err, open.ErrNoIdentity) {
		t.Errorf("a stranger with a file whose payload is cut: %v, want ErrNoIdentity", err)
	}
	if _, err := open.New(p.id).Flight(); !errors.Is(err, open.ErrDamaged) {
		t.Errorf("no file at all: %v, want ErrDamaged", err)
	}
}

// TestFlightHeaderBits flips each bit of the header: never another identity, never a panic.
func TestFlightHeaderBits(t *testing.T) {
	p := newPerson(t, true)
	_, files := newFlight(t, p.rec)
	o := open.New(p.id)
	for i := range bytes.LastIndex(files[0], []byte("\n--- ")) + 49 {
		for bit := range 8 {
			file := bytes.Clone(files[0])
			file[i] ^= 1 << bit
			if _, err := o.Flight(file); err == nil {
				t.Fatalf("byte %d bit %d: opened", i, bit)
			}
		}
	}
}

func ExampleOpener_Flight() {
	secret, recipient, _ := keys.GenerateIdentity(false)
	// On the board: the flight's secret is sealed to the operator.
	operators, _ := keys.ParseRecipients(strings.NewReader(recipient))
	flight, _ := keys.NewFlightKey(operators)
	// On the ground: the operator's identity opens it.
	ids, _ := keys.ParseIdentities(strings.NewReader(secret))
	_, err := open.New(ids...).Flight(flight.Files[0].Data)
	fmt.Println(err)
	// Output: <nil>
}
