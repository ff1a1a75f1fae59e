package custody

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"holdfast/crypto/keys"
)

// ErrHead means that Options.Head is no checkpoint, or one of another device.
var ErrHead = errors.New("not a checkpoint of this device")

// Options tell Verify what is known from outside. The zero value checks a folder against itself.
type Options struct {
	// Device is the name of the device's folder where that means something, 8 hex digits.
	// It is empty where the folder is a copy that may be named anything.
	Device string
	// DeviceKey is the verifier line of the device as it was noted before, from somewhere else.
	DeviceKey string
	// Head is a copy of a checkpoint that was kept outside.
	Head []byte
	// Readme is what README.txt must be. Nothing is compared where it is empty.
	Readme []byte
	// InUse says that a recorder holds the vault now: what is not finished is open, not cut.
	InUse bool
	// AcceptRecord, where set, tells which records' files are read. The log is read whole.
	AcceptRecord func(record string) bool
	// Each, where set, is handed each record when it is judged, and Report.Records stays
	// empty, so that memory does not grow with the number of records.
	Each func(*RecordReport)
	// Progress, where set, is told of bytes as they are read.
	Progress func(n int64)
	// Stop, where set, is asked between reads; Verify ends with the error that it returns.
	Stop func() error
}

// Verify checks the device's folder at the root of fsys by rules V1 to V17 of
// docs/format/v1.md, section 6.6. It needs no decryption key and believes nothing that it reads.
// What is wrong with the folder stands in the report. An error means that no verdict was
// reached: ErrHead, keys.ErrDeviceKey (both of Options), or that of Options.Stop.
//
// Memory is bounded by the segments of the records that are open at one time, and by one byte
// for each record; log and files are read in pieces.
func Verify(fsys fs.FS, o Options) (*Report, error) {
	v := &verifier{fsys: fsys, o: o, buf: make([]byte, readSize), rep: &Report{Findings: []Finding{}, States: map[Verdict]int64{}, InUse: o.InUse}}
	if err := v.prepare(); err != nil {
		return nil, err
	}
	if v.nothing() {
		return v.report(), v.stopped
	}
	v.slots()
	v.readLog()
	v.settle()
	v.readme()
	v.gather()
	v.strays()
	return v.report(), v.stopped
}

// verifier is one verification in progress.
type verifier struct {
	fsys    fs.FS
	o       Options
	buf     []byte
	rep     *Report
	stopped error

	device string // 8 hex digits; empty where no key is known
	chain  chain
	marks  []*mark               // slots that could be read, and the head from outside
	lines  map[string][]OpenFile // by record, of the newest right checkpoint
	inSlot [2]slotFound

	logSize  int64
	logError error // of the medium, while reading log.bin
	unsound  bool  // V1 to V12, or V17, have found something worse than a cut
}

// Names inside a device's folder.
const (
	logDir    = "LOG"
	logFile   = "LOG/log.bin"
	devicePub = "LOG/device.pub"
	flightPub = "flight.pub"
	readme    = "README.txt"
)

var slotFile = [2]string{"LOG/cp.A", "LOG/cp.B"}

// find adds a finding about the device as a whole.
func (v *verifier) find(f Finding) {
	v.rep.State = v.rep.State.Worse(f.State)
	if len(f.Rule) == 2 || f.Rule < "V13" || f.Rule == "V17" { // V1 to V12, V17
		v.unsound = v.unsound || verdictRank[f.State] > verdictRank[VerdictCut]
	}
	if len(v.rep.Findings) >= maxFindings {
		v.rep.MoreFindings++
		return
	}
	v.rep.Findings = append(v.rep.Findings, f)
}

// unfinished is what to call something that is not finished: open in use, else cut.
func (v *verifier) unfinished() Verdict {
	if v.o.InUse {
		return VerdictOpen
	}
	return VerdictCut
}

// prepare finds the device key and reads the head.
func (v *verifier) prepare() error {
	if err := v.deviceKey(); err != nil {
		return err
	}
	if len(v.o.Head) == 0 {
		return nil
	}
	c, err := ParseCheckpoint(v.o.Head)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHead, err)
	}
	if c.Device != v.device && v.device != "" {
		return fmt.Errorf("%w: it is of device %s, not of %s", ErrHead, c.Device, v.device)
	}
	v.marks = append(v.marks, &mark{Checkpoint: c, name: "the head that was kept", rule: "V16"})
	return nil
}

// deviceKey checks device.pub and the folder's name (V2) and chooses the key to judge by.
func (v *verifier) deviceKey() error {
	pinned := strings.TrimSuffix(v.o.DeviceKey, "\n")
	if pinned != "" {
		id, err := keys.DeviceIDOf(pinned)
		if err != nil {
			return err
		}
		v.rep.Pinned = true
		v.useKey(id, pinned)
	}
	data, err := v.small(devicePub, maxSmall)
	if err != nil {
		v.find(Finding{State: stateOf(err), Rule: "V2", File: devicePub, Text: "device.pub " + reason(err)})
		return nil
	}
	line := strings.TrimSuffix(string(data), "\n")
	id, err := keys.DeviceIDOf(line)
	switch {
	case err != nil || string(data) != line+"\n":
		v.find(tampered("V2", devicePub, "device.pub is not a device's verifier line with a line feed"))
		return nil
	case v.o.Device != "" && id != v.o.Device:
		v.find(tampered("V2", devicePub, fmt.Sprintf("device.pub is of device %s, and the folder's name says %s", id, v.o.Device)))
	case pinned != "" && line != pinned:
		v.find(tampered("V2", devicePub, fmt.Sprintf("device.pub is of device %s, and the key given is of %s", id, v.device)))
	}
	if pinned == "" {
		v.useKey(id, line)
	}
	return nil
}

func (v *verifier) useKey(id, line string) {
	v.device, v.rep.Device = id, id
	v.chain.device, v.chain.deviceKey = id, rawKey(line)
}

// nothing ends the verification of a folder without a log, with one finding that says so.
func (v *verifier) nothing() bool {
	info, err := fs.Lstat(v.fsys, logDir)
	if err == nil && info.IsDir() {
		return false
	}
	v.rep.Findings = v.rep.Findings[:0]
	v.find(Finding{State: VerdictMissing, Rule: "V12", File: logDir,
		Text: "the folder LOG is not there, so nothing here can be verified; copy the whole folder of the device"})
	return true
}

// readme compares README.txt (V14). A cut in the first start of all may have kept it from being
// written, as long as there is no leaf.
func (v *verifier) readme() {
	if len(v.o.Readme) == 0 || v.chain.size() == 0 && !v.hasRecords() {
		return
	}
	data, err := v.small(readme, maxSmall+len(v.o.Readme))
	switch {
	case err != nil:
		v.find(Finding{State: stateOf(err), Rule: "V14", File: readme, Text: "README.txt " + reason(err)})
	case string(data) != string(v.o.Readme):
		v.find(tampered("V14", readme, "README.txt is not the text of the format"))
	}
}

// readLog is the first of two passes over log.bin: it follows the chain of signatures and checks
// how leaves follow each other.
func (v *verifier) readLog() {
	c := &v.chain
	c.begin(v.find)
	f, size, err := v.openRegular(logFile)
	if err != nil {
		v.logError = err
		v.find(Finding{State: stateOf(err), Rule: "V12", File: logFile, Text: "log.bin " + reason(err) + ", so nothing here can be verified"})
		return
	}
	defer f.Close()
	v.logSize = size
	src := &source{v: v, r: f}
	r := NewReader(src)
	v.look()
	for v.stopped == nil {
		l, err := r.Next()
		if err == nil {
			err = c.add(l, r.Offset())
		}
		if err != nil {
			break // what the end means is said in settle
		}
		v.look()
	}
	if src.err != nil {
		v.logError = src.err
		v.find(Finding{State: VerdictDamaged, Rule: "V12", File: logFile, Leaf: at(c.size()), Byte: at(c.bytes),
			Text: fmt.Sprintf("the medium does not return log.bin from byte %d on: %s", c.bytes, plainText(src.err))})
	}
}

// look checks the checkpoints that count exactly the leaves read so far.
func (v *verifier) look() {
	for _, m := range v.marks {
		if m.Size == v.chain.size() && !m.met {
			m.met, m.bytes = true, v.chain.bytes
			m.problem = v.chain.against(m.Checkpoint)
			m.unknown = v.chain.key == nil && v.chain.size() > 0
			if m.right() {
				v.chain.prove(m.Size)
			}
		}
	}
}

// report fills in what is known at the end.
func (v *verifier) report() *Report {
	r := v.rep
	r.State = r.State.Worse(VerdictClean)
	r.Boots, r.Leaves, r.Proven = v.chain.boots, v.chain.size(), v.chain.proven
	r.UnsignedTail = r.Leaves - r.Proven
	r.Identity = v.identity()
	r.Limits = v.limits()
	slices.SortFunc(r.Records, func(a, b *RecordReport) int { return strings.Compare(a.Record[1:], b.Record[1:]) })
	return r
}

func (v *verifier) identity() string {
	switch {
	case v.chain.proven == 0:
		return "nothing is signed by the device key"
	case v.rep.Pinned:
		return "signed by the device key given"
	}
	return "self-consistent, device unknown"
}

// source reads for the verifier: it tells of progress, can be stopped, and keeps the medium's
// error apart from what the bytes say.
type source struct {
	v   *verifier
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.v.stop() {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.r.Read(p)
	if s.v.o.Progress != nil {
		s.v.o.Progress(int64(n))
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (v *verifier) stop() bool {
	if v.stopped == nil && v.o.Stop != nil {
		v.stopped = v.o.Stop()
	}
	return v.stopped != nil
}
