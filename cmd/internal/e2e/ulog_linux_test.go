package e2e_test

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// ulogHead is what a ULog begins with: its magic, a version and a time
// (https://docs.px4.io/main/en/dev_log/ulog_file_format.html#header-section).
const ulogHead = 16

// ulogMessages takes a ULog apart by the sizes in its messages' headers. The last one may be cut: a
// stream ends where the last full message of the protocol does.
func ulogMessages(p []byte) (messages [][]byte, err error) {
	if len(p) < ulogHead || !bytes.HasPrefix(p, []byte("ULog\x01\x12\x35")) {
		return nil, fmt.Errorf("%d bytes that are no ULog", len(p))
	}
	for at := ulogHead; at < len(p); {
		end := len(p)
		if at+3 <= len(p) {
			end = min(end, at+3+int(binary.LittleEndian.Uint16(p[at:])))
		}
		messages, at = append(messages, p[at:end]), end
	}
	return messages, nil
}

// wantULog: PX4 sends most of its stream once or never, and says of what is lost only how many
// messages of the protocol it was. So what is opened is a ULog whose messages are those of the
// vehicle's own log, in its order; what did not come is counted, and at no loss all that was sent
// is there.
func (s *sortie) wantULog(c logCase, f openedFile) {
	s.t.Helper()
	got, err := ulogMessages(f.data)
	if err != nil {
		s.t.Errorf("%v: %v: %s", c, err, describeLogs([]openedFile{f}))
		return
	}
	kept := s.kept()
	want, _ := ulogMessages(kept[len(kept)-1])
	next := 0
	for i, m := range got {
		last := i == len(got)-1
		for next < len(want) && !bytes.Equal(want[next], m) && !(last && bytes.HasPrefix(want[next], m)) {
			next++
		}
		if next++; next > len(want) {
			s.t.Errorf("%v: message %d of %d is none of the vehicle's, or at another place: %x", c, i, len(got), m)
			return
		}
	}
	s.wantULogCount(c, f)
}

// wantULogCount compares what is missing with the numbers of the messages that reached the board.
func (s *sortie) wantULogCount(c logCase, f openedFile) {
	s.t.Helper()
	chunks, top, carried := map[uint16]bool{}, -1, 0
	take := func(seq uint16, n uint8) {
		if !chunks[seq] {
			carried += int(n)
		}
		chunks[seq], top = true, max(top, int(seq))
	}
	for _, m := range decode(s.said.frames) {
		switch m := m.(type) {
		case *common.MessageLoggingData:
			take(m.Sequence, m.Length)
		case *common.MessageLoggingDataAcked:
			take(m.Sequence, m.Length)
		}
	}
	missing := top + 1 - len(chunks)
	whole := f.LostBytes == 0 && f.Complete
	if (missing == 0) != whole || f.LostBytes < int64(missing)*249 || f.Bytes+f.LostBytes < int64(carried) || len(f.data) != int(f.Bytes) {
		s.t.Errorf("%v: %d of %d messages did not come, %d bytes came: %s", c, missing, top+1, carried, describeLogs([]openedFile{f}))
	}
	if c.loss == "0" && missing != 0 {
		s.t.Errorf("%v: %d messages are missing", c, missing)
	}
	if len(f.data) < 10_000 {
		s.t.Errorf("%v: only %d bytes", c, len(f.data))
	}
}
