package media

import (
	"fmt"
	"time"

	"holdfast/firmware/mediapipe"
)

const (
	// maxPhoto bounds a photo that is found in a stream, in bytes.
	maxPhoto = 64 << 20
	// maxPhotoRate is how many photos a second are taken out of one stream.
	maxPhotoRate = 50
)

// stream turns what one run of a source gives into files: video, and photos where the format has
// them. Used by one goroutine.
type stream struct {
	c     *camera
	sound soundCheck
	sniff sniffer
	// within is how well the time of a photo is known.
	within time.Duration
	// frameAt is when the present frame was taken, where the source tells; noPhotos keeps it from
	// being taken for a photo.
	frameAt  time.Duration
	noPhotos bool

	video   *file
	refused bool     // it has sound
	last    bool     // the source was told to end: what comes now belongs to the video
	held    [][]byte // until it is known whether it has

	scan   jpegScan
	photo  *file
	piece  []byte // of photo, filled up to n
	n      int
	size   int // of photo
	second time.Duration
	taken  int // photos in that second
}

func newStream(c *camera, within time.Duration) *stream {
	return &stream{c: c, within: within, sound: soundCheck{off: c.cfg.Audio && c.m.cfg.Audio}, sniff: sniffer{format: c.cfg.Format}}
}

// take takes a piece with n bytes of content.
func (s *stream) take(piece []byte, n int) {
	content := piece[mediapipe.HeadRoom : mediapipe.HeadRoom+n]
	if what := s.sniff.look(content); what != "" {
		s.c.m.event(s.c.cfg.Name, "format_unexpected", what)
	}
	if s.c.stills() {
		s.photos(content)
	}
	if s.c.cfg.Format == "jpg" || !s.filming() {
		s.endVideo("")
		freePiece(piece)
		return
	}
	s.film(cut(piece, n))
}

// filming tells whether what comes belongs to the video. A source that is wanted for nothing any more
// is told to end at once: what it gives before it hears of it, and then, is the video's end. One that
// goes on for photos is not told, and its video is over.
func (s *stream) filming() bool {
	if s.c.recording() {
		return true
	}
	wanted, _, _ := s.c.wanted()
	return s.video != nil && (s.last || !wanted)
}

// film hands a piece of video over once it is known that it has no sound, where it may have none.
func (s *stream) film(wire []byte) {
	verdict := soundRefused
	if !s.refused {
		verdict = s.sound.look(wire[mediapipe.HeadRoom:])
	}
	switch verdict {
	case soundRefused:
		s.refuse()
		freePiece(wire)
	case soundUnknown:
		s.held = append(s.held, wire)
	default:
		if s.video == nil {
			s.video = s.c.m.newFile(mediapipe.Begin{Camera: s.c.cfg.Name, Kind: mediapipe.Video, Format: s.c.cfg.Format})
		}
		for _, p := range s.held {
			s.video.write(p)
		}
		s.held = nil
		s.video.write(wire)
	}
}

// refuse ends the file, once, and drops what was held of it.
func (s *stream) refuse() {
	if s.refused {
		return
	}
	s.refused = true
	s.c.m.event(s.c.cfg.Name, "audio_refused", "the video has sound, and the policy wants none: "+s.sound.what)
	for _, p := range s.held {
		freePiece(p)
	}
	s.held = nil
	s.endVideo(mediapipe.WhyAudio)
}

func (s *stream) endVideo(why string) {
	if s.video != nil {
		s.video.end(why)
		s.video = nil
	}
}

// end says that no more comes; why is empty where that was wanted.
func (s *stream) end(why string) {
	s.settle()
	s.endVideo(why)
	if why == "" {
		why = "cut"
	}
	s.endPhoto(why)
}

// settle decides about what was held of a stream that has ended.
func (s *stream) settle() {
	if len(s.held) == 0 {
		return
	}
	if s.sound.short() { // and of a format that is not looked into
		s.video = s.c.m.newFile(mediapipe.Begin{Camera: s.c.cfg.Name, Kind: mediapipe.Video, Format: s.c.cfg.Format})
	} else {
		s.c.m.event(s.c.cfg.Name, "media_lost", "the video ended before it said whether it has sound")
	}
	for _, p := range s.held {
		if s.video != nil {
			s.video.write(p)
		} else {
			freePiece(p)
		}
	}
	s.held = nil
}

// photos finds the JPEGs in what comes.
func (s *stream) photos(p []byte) {
	for len(p) > 0 {
		n, edge := s.scan.step(p)
		if s.photo != nil {
			s.add(p[:n])
		}
		p = p[n:]
		switch edge {
		case jpegOn:
			s.beginPhoto()
		case jpegOver:
			s.endPhoto("")
		case jpegBad:
			s.endPhoto("not a JPEG")
		}
	}
}

// beginPhoto begins a file where a photo is wanted now.
func (s *stream) beginPhoto() {
	if s.noPhotos {
		return
	}
	index, trigger, ok := s.c.shot()
	if !ok && (s.c.cfg.Format != "jpg" || !s.c.recording()) {
		return
	}
	if !ok {
		index, trigger = -1, mediapipe.TriggerInterval
	}
	now := s.c.m.cfg.Now()
	taken := now
	if s.frameAt > 0 {
		taken = s.frameAt
	}
	if now-s.second >= time.Second {
		s.second, s.taken = now, 0
	}
	if s.taken++; s.taken > maxPhotoRate {
		if s.taken == maxPhotoRate+1 {
			s.c.m.event(s.c.cfg.Name, "media_lost", fmt.Sprintf("more than %d photos a second", maxPhotoRate))
		}
		return
	}
	s.photo = s.c.m.newFile(mediapipe.Begin{Camera: s.c.cfg.Name, Kind: mediapipe.Photo, Format: "jpg", Trigger: trigger, Index: index,
		TakenUsec: taken.Microseconds(), UncertaintyUsec: s.within.Microseconds()})
	s.piece, s.n, s.size = newPiece(), 0, 0
	s.add([]byte{0xFF, mSOI})
}

func (s *stream) add(p []byte) {
	if s.size += len(p); s.size > maxPhoto {
		s.endPhoto("larger than a photo may be")
		return
	}
	for len(p) > 0 {
		if s.n == pieceSize {
			s.flush()
		}
		n := copy(s.piece[mediapipe.HeadRoom+s.n:], p)
		s.n += n
		p = p[n:]
	}
}

func (s *stream) flush() {
	s.photo.write(cut(s.piece, s.n))
	s.piece, s.n = newPiece(), 0
}

func (s *stream) endPhoto(why string) {
	if s.photo == nil {
		return
	}
	if s.n > 0 {
		s.photo.write(cut(s.piece, s.n))
	} else {
		freePiece(s.piece)
	}
	s.photo.end(why)
	s.photo, s.piece = nil, nil
}
