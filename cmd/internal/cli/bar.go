package cli

import (
	"os"
	"time"

	"github.com/cheggaaa/pb/v3"
)

// Bar is a progress bar on standard error; nil, as NewBar returns it off a terminal, shows
// nothing. (Its library was chosen because it does not link an HTTP client.)
// Not safe for concurrent use.
type Bar struct {
	bar   *pb.ProgressBar
	shown time.Time
	at    int64
}

// barEvery is the pause between two looks of the bar.
const barEvery = 200 * time.Millisecond

const barTemplate = pb.ProgressBarTemplate(`{{ string . "text" }} {{ bar . "[" "#" "#" "." "]" }} {{ percent . }}{{ if string . "bytes" }} {{ counters . }}{{ end }}`)

// NewBar returns a bar for total steps, or bytes where bytes is set; 0 or less: not known.
func NewBar(total int64, text string, bytes bool) *Bar {
	if !IsTerminal(os.Stderr) {
		return nil
	}
	p := barTemplate.New(0).SetTotal(max(total, 0)).SetWriter(os.Stderr).SetMaxWidth(100).Set("text", text).Set(pb.Static, true).Set(pb.CleanOnFinish, true)
	if bytes {
		p.Set(pb.Bytes, true).Set("bytes", "yes")
	}
	b := &Bar{bar: p.Start()}
	p.Write()
	return b
}

// Show moves the bar, a few times a second at most. text is asked for only then.
func (b *Bar) Show(at int64, text func() string) {
	if b == nil || time.Since(b.shown) < barEvery {
		return
	}
	b.shown = time.Now()
	b.bar.Set("text", text()).SetCurrent(at)
	b.bar.Write()
}

// Add moves the bar by n.
func (b *Bar) Add(n int64, text func() string) {
	if b != nil {
		b.at += n
		b.Show(b.at, text)
	}
}

// Finish takes the bar off the terminal.
func (b *Bar) Finish() {
	if b != nil {
		b.bar.Finish()
	}
}
