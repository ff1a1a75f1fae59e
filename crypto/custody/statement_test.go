package custody_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
)

const statementDevice = "0a1b2c3d"

// operator returns the signer and the verifier of an operator whose key has this seed.
func operator(t testing.TB, seed byte) (note.Signer, note.Verifier) {
	t.Helper()
	k, err := keys.NewOperatorKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := k.Signer()
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(k.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func number(b byte) (n custody.Number) {
	for i := range n {
		n[i] = b + byte(i)
	}
	return n
}

func sum(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

// statements is one of each action, by the action's name and, for the second stick, its form.
func statements() map[string]*custody.Statement {
	receipt := &custody.Receipt{Leaves: 41, Root: tlog.Hash(sum("root")), Records: []custody.ReceiptRecord{
		{Record: "G00000001", Leaf: tlog.Hash(sum("leaf 1"))}, {Record: "F00000002", Leaf: tlog.Hash(sum("leaf 2"))}}}
	ticket := &custody.Ticket{Interfaces: []string{"eth0", "usb0"}, SpanUsec: 900_000_000}
	list := &custody.RecipientsList{Recipients: sum("recipients.txt"), Config: sum("holdfast.toml")}
	end := custody.Until{Boot: 7, Usec: 3_600_000_000}
	return map[string]*custody.Statement{
		"receipt":    {Device: statementDevice, Number: number(1), Order: receipt},
		"ticket":     {Device: statementDevice, Number: number(2), Until: end, Order: ticket},
		"stick":      {Device: custody.AnyDevice, Number: number(3), Order: &custody.Stick{ID: number(64)}},
		"stick ends": {Device: statementDevice, Number: number(4), Until: end, Order: &custody.Stick{ID: number(64)}},
		"recipients": {Device: statementDevice, Number: number(5), Order: list},
	}
}

func mustSign(t testing.TB, s *custody.Statement, by note.Signer) []byte {
	t.Helper()
	msg, err := s.Sign(by)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func TestStatementRoundTrip(t *testing.T) {
	signer, verifier := operator(t, 1)
	_, other := operator(t, 2)
	for name, s := range statements() {
		msg := mustSign(t, s, signer)
		got, err := custody.ParseStatement(msg, []note.Verifier{other, verifier})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Signer != signer.Name() {
			t.Errorf("%s: signer %q", name, got.Signer)
		}
		want := *s
		want.Signer = signer.Name()
		if !reflect.DeepEqual(got, &want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		if again := mustSign(t, got, signer); !bytes.Equal(again, msg) {
			t.Errorf("%s: signed again it is\n%s, was\n%s", name, again, msg)
		}
	}
}

// TestStatementForm holds the text of one statement against the format, word by word.
func TestStatementForm(t *testing.T) {
	signer, _ := operator(t, 1)
	want := "holdfast/v1 statement\naction ticket\ndevice 0a1b2c3d\nnumber 02030405060708090a0b0c0d0e0f1011\nuntil 7 3600000000\n" +
		"interfaces eth0 usb0\nspan 900000000\n\n\u2014 " + signer.Name() + " "
	if got := string(mustSign(t, statements()["ticket"], signer)); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 9 {
		t.Errorf("got\n%s", got)
	}
}

// TestStatementBreaksRule signs what the format does not allow.
func TestStatementBreaksRule(t *testing.T) {
	signer, _ := operator(t, 1)
	end, day := custody.Until{Boot: 1}, int64(custody.MaxSpanUsec)
	ticket := func(span int64, names ...string) custody.Order {
		return &custody.Ticket{Interfaces: names, SpanUsec: span}
	}
	records := func(names ...string) custody.Order {
		r := &custody.Receipt{Leaves: 1}
		for _, n := range names {
			r.Records = append(r.Records, custody.ReceiptRecord{Record: n})
		}
		return r
	}
	var many []string
	for i := range 257 {
		many = append(many, fmt.Sprintf("F%08d", i+1))
	}
	list := &custody.RecipientsList{Recipients: sum("a"), Config: sum("b")}
	for name, s := range map[string]*custody.Statement{
		"no order":                 {Device: statementDevice},
		"no device":                {Order: list},
		"device in capitals":       {Device: "0A1B2C3D", Order: list},
		"long device":              {Device: "0a1b2c3d4", Order: list},
		"receipt for any":          {Device: "any", Order: records("F00000001")},
		"receipt with an end":      {Device: statementDevice, Until: end, Order: records("F00000001")},
		"ticket for any":           {Device: "any", Until: end, Order: ticket(1, "eth0")},
		"ticket without an end":    {Device: statementDevice, Order: ticket(1, "eth0")},
		"stick for any that ends":  {Device: "any", Until: end, Order: &custody.Stick{}},
		"recipients with an end":   {Device: statementDevice, Until: end, Order: list},
		"boot 0":                   {Device: statementDevice, Until: custody.Until{Usec: 1}, Order: ticket(1, "eth0")},
		"negative time":            {Device: statementDevice, Until: custody.Until{Boot: 1, Usec: -1}, Order: ticket(1, "eth0")},
		"number too large":         {Device: statementDevice, Until: custody.Until{Boot: 1 << 53}, Order: ticket(1, "eth0")},
		"no interface":             {Device: statementDevice, Until: end, Order: ticket(1)},
		"interfaces out of order":  {Device: statementDevice, Until: end, Order: ticket(1, "usb0", "eth0")},
		"an interface twice":       {Device: statementDevice, Until: end, Order: ticket(1, "eth0", "eth0")},
		"interface with a space":   {Device: statementDevice, Until: end, Order: ticket(1, "eth0 usb0")},
		"interface ..":             {Device: statementDevice, Until: end, Order: ticket(1, "..")},
		"long interface":           {Device: statementDevice, Until: end, Order: ticket(1, "a123456789abcdef")},
		"interface with a newline": {Device: statementDevice, Until: end, Order: ticket(1, "eth0\nspan")},
		"empty interface":          {Device: statementDevice, Until: end, Order: ticket(1, "")},
		"span 0":                   {Device: statementDevice, Until: end, Order: ticket(0, "eth0")},
		"span over a day":          {Device: statementDevice, Until: end, Order: ticket(day+1, "eth0")},
		"no record":                {Device: statementDevice, Order: records()},
		"record without a name":    {Device: statementDevice, Order: records("")},
		"record of another form":   {Device: statementDevice, Order: records("../../etc")},
		"records out of order":     {Device: statementDevice, Order: records("F00000002", "G00000001")},
		"one number twice":         {Device: statementDevice, Order: records("F00000001", "G00000001")},
		"too many records":         {Device: statementDevice, Order: records(many...)},
		"a head of no leaves":      {Device: statementDevice, Order: &custody.Receipt{Records: []custody.ReceiptRecord{{Record: "F00000001"}}}},
		"short hash":               {Device: statementDevice, Order: &custody.RecipientsList{Recipients: []byte{1}, Config: sum("b")}},
	} {
		if msg, err := s.Sign(signer); !errors.Is(err, custody.ErrStatement) {
			t.Errorf("%s: %v\n%s", name, err, msg)
		}
	}
	full := &custody.Statement{Device: statementDevice, Order: records(many[:256]...)}
	if msg, err := full.Sign(signer); err != nil || len(msg) > custody.MaxStatement {
		t.Errorf("256 records: %d bytes, %v", len(msg), err)
	}
}

// signText signs any text with the operator's key: what a signer with other software could make.
func signText(t testing.TB, text string, by ...note.Signer) []byte {
	t.Helper()
	msg, err := note.Sign(&note.Note{Text: text}, by...)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// TestStatementNotCanonical edits the text and signs it again: the signature is right, and the
// text is none that Sign makes.
func TestStatementNotCanonical(t *testing.T) {
	signer, verifier := operator(t, 1)
	texts := map[string]string{}
	for name, s := range statements() {
		texts[name], _, _ = strings.Cut(string(mustSign(t, s, signer)), "\n\n")
		texts[name] += "\n"
	}
	hash := base64.StdEncoding.EncodeToString(sum("root"))
	for _, tt := range []struct{ name, of, old, new string }{
		{"other title", "ticket", "v1 statement", "v2 statement"},
		{"no title", "ticket", "holdfast/v1 statement\n", ""},
		{"unknown action", "ticket", "action ticket", "action open"},
		{"no action", "ticket", "action ticket\n", ""},
		{"two actions", "ticket", "action ticket", "action ticket receipt"},
		{"action of another", "ticket", "action ticket", "action receipt"},
		{"device and number swapped", "ticket", "device 0a1b2c3d\nnumber 02030405060708090a0b0c0d0e0f1011", "number 02030405060708090a0b0c0d0e0f1011\ndevice 0a1b2c3d"},
		{"number in capitals", "ticket", "0a0b0c0d", "0A0B0C0D"},
		{"short number", "ticket", "0a0b0c0d", "0a0b0c"},
		{"two spaces", "ticket", "span 9", "span  9"},
		{"space at the end", "ticket", "span 900000000", "span 900000000 "},
		{"tab", "ticket", "span 9", "span\t9"},
		{"leading zero", "ticket", "span 9", "span 09"},
		{"plus", "ticket", "span 9", "span +9"},
		{"hex", "ticket", "span 9", "span 0x9"},
		{"empty line", "ticket", "span 9", "\nspan 9"},
		{"a line more", "ticket", "span 900000000\n", "span 900000000\nnote hello\n"},
		{"span twice", "ticket", "span 900000000\n", "span 900000000\nspan 900000000\n"},
		{"a line less", "ticket", "span 900000000\n", ""},
		{"interfaces empty", "ticket", "interfaces eth0 usb0", "interfaces"},
		{"until without boot", "ticket", "until 7 3600000000", "until 3600000000"},
		{"until 0 0", "receipt", "until -", "until 0 0"},
		{"until gone", "receipt", "until -\n", ""},
		{"records behind the head", "receipt", "head 41 " + hash + "\n", "head 41 " + hash + "\nrecord F00000003 " + hash + "\n"},
		{"stray bits in base64", "receipt", hash, hash[:len(hash)-2] + string(hash[len(hash)-2]+1) + "="},
		{"no padding", "receipt", hash, hash[:len(hash)-1]},
		{"config first", "recipients", "recipients.txt", "holdfast.toml"},
		{"capital letter", "stick", "stick 4", "Stick 4"},
	} {
		text := strings.Replace(texts[tt.of], tt.old, tt.new, 1)
		if text == texts[tt.of] {
			t.Errorf("%s: nothing was changed", tt.name)
			continue
		}
		if s, err := custody.ParseStatement(signText(t, text, signer), []note.Verifier{verifier}); !errors.Is(err, custody.ErrStatement) {
			t.Errorf("%s: %+v, %v", tt.name, s, err)
		}
	}
}

// TestStatementEnvelope edits what lies around the text.
func TestStatementEnvelope(t *testing.T) {
	signer, verifier := operator(t, 1)
	second, secondVerifier := operator(t, 2)
	stranger, _ := operator(t, 3)
	trusted := []note.Verifier{verifier, secondVerifier}
	good := string(mustSign(t, statements()["ticket"], signer))
	text, sig, _ := strings.Cut(good, "\n\n")
	text += "\n"
	for _, tt := range []struct {
		name string
		msg  string
		want error
	}{
		{"empty", "", custody.ErrStatement},
		{"text alone", text, custody.ErrStatement},
		{"no text", "\n" + sig, custody.ErrStatement},
		{"stranger", string(signText(t, text, stranger)), custody.ErrUntrusted},
		{"signature of another text", strings.Replace(good, "span 9", "span 8", 1), custody.ErrUntrusted},
		{"two signers", string(signText(t, text, signer, second)), custody.ErrStatement},
		{"signer and stranger", string(signText(t, text, signer, stranger)), custody.ErrStatement},
		{"signature twice", good + sig, custody.ErrStatement},
		{"no line feed at the end", strings.TrimSuffix(good, "\n"), custody.ErrStatement},
		{"bytes behind", good + "x", custody.ErrStatement},
		{"carriage returns", strings.ReplaceAll(good, "\n", "\r\n"), custody.ErrStatement},
		{"not UTF-8", strings.Replace(good, "eth0", "eth\xff", 1), custody.ErrStatement},
		{"long", text + strings.Repeat("x", custody.MaxStatement) + "\n\n" + sig, custody.ErrStatement},
	} {
		if _, err := custody.ParseStatement([]byte(tt.msg), trusted); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := custody.ParseStatement([]byte(good), nil); !errors.Is(err, custody.ErrUntrusted) {
		t.Errorf("nobody trusted: %v", err)
	}
}

// TestStatementSignatureForm: base64 that decodes to the same signature is not the same note.
func TestStatementSignatureForm(t *testing.T) {
	signer, verifier := operator(t, 1)
	good := string(mustSign(t, statements()["ticket"], signer))
	end := strings.TrimSuffix(good, "=\n")
	stray := end[:len(end)-1] + string(end[len(end)-1]+1) + "=\n"
	for name, msg := range map[string]string{"stray bits": stray, "line break inside": good[:len(good)-20] + "\r" + good[len(good)-20:]} {
		if _, err := custody.ParseStatement([]byte(msg), []note.Verifier{verifier}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestCheckpointIsNoStatement: a key signs either logs or statements, and even if one signed
// both, neither text reads as the other.
func TestCheckpointIsNoStatement(t *testing.T) {
	signer, verifier := operator(t, 1)
	msg := signText(t, "holdfast-0a1b2c3d\n1\n"+base64.StdEncoding.EncodeToString(sum("root"))+"\n", signer)
	if _, err := custody.ParseStatement(msg, []note.Verifier{verifier}); !errors.Is(err, custody.ErrStatement) {
		t.Errorf("got %v", err)
	}
}

// TestStatementDocument reads the example and its verifier line out of the specification.
func TestStatementDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/format/statements.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(doc), "\n```\n")
	var example, line string
	for i, b := range blocks {
		switch {
		case i%2 == 1 && strings.HasPrefix(b, "holdfast/v1 statement"):
			example = b + "\n"
		case i%2 == 1 && strings.HasPrefix(b, "holdfast-operator-"):
			line = b
		}
	}
	verifier, err := note.NewVerifier(line)
	if err != nil {
		t.Fatalf("verifier line %q: %v", line, err)
	}
	got, err := custody.ParseStatement([]byte(example), []note.Verifier{verifier})
	if err != nil {
		t.Fatalf("%v in\n%s", err, example)
	}
	signer, _ := operator(t, 1)
	if want := string(mustSign(t, statements()["receipt"], signer)); example != want || got.Order.Action() != custody.ActionReceipt {
		t.Errorf("the document has\n%s, want\n%s", example, want)
	}
}

func FuzzStatement(f *testing.F) {
	signer, verifier := operator(f, 1)
	for _, s := range statements() {
		msg := string(mustSign(f, s, signer))
		f.Add(msg, false)
		text, _, _ := strings.Cut(msg, "\n\n")
		f.Add(text+"\n", true)
	}
	f.Fuzz(func(t *testing.T, s string, sign bool) {
		msg := []byte(s)
		if sign { // so that the text itself is read
			var err error
			if msg, err = note.Sign(&note.Note{Text: s}, signer); err != nil {
				return
			}
		}
		got, err := custody.ParseStatement(msg, []note.Verifier{verifier})
		if err != nil {
			if !errors.Is(err, custody.ErrStatement) && !errors.Is(err, custody.ErrUntrusted) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again, err := got.Sign(signer); err != nil || !bytes.Equal(again, msg) {
			t.Fatalf("%q reads as %+v, which is signed as %q, %v", msg, got, again, err)
		}
	})
}
