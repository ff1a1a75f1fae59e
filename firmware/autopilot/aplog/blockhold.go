package aplog

import (
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
)

// What comes of ArduPilot's stream while it is disarmed, and how the stream goes on into a flight.

// hold keeps a block that came before the flight. An autopilot that logs while disarmed is made to
// begin anew, from time to time.
func (s *blockStream) hold(seq int64, data *[remoteBlock]byte) {
	end := int((seq + 1) * remoteBlock)
	if end > remoteHead {
		s.force(s.l.now)
		return
	}
	if end > len(s.head) {
		s.head = append(s.head, make([]byte, end-len(s.head))...)
	}
	copy(s.head[end-remoteBlock:], data[:])
	s.high = max(s.high, seq+1)
	s.taken(seq, seq+1, data[:])
}

// putHead hands over what was held. false: the Store had no room for all of it.
func (s *blockStream) putHead(now time.Duration) bool {
	for _, r := range s.got.r {
		for from := max(r.From*remoteBlock, s.put); from < min(r.To*remoteBlock, int64(len(s.head))); from = s.put {
			to := min(r.To*remoteBlock, from+putSize)
			if !s.out.put(from, s.head[from:to], now) {
				return false
			}
			s.put = to
		}
	}
	s.head, s.put = nil, 0
	return true
}

// startAgain sends START to an autopilot that logs nothing while armed: it has stopped. One that has
// not does not mind. It returns when that is due, due at the latest.
func (s *blockStream) startAgain(now, due time.Duration) time.Duration {
	at := max(s.heard, s.since) + remoteRefused
	if at = max(at, s.startAt); !s.on || at >= due {
		return due
	}
	if now < at {
		return at
	}
	s.status(remoteStart, ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK)
	s.startAt = now + startEvery
	return s.startAt
}

// arm begins the flight's file, when it is time. START tells an autopilot that has stopped meanwhile;
// another one does not mind.
func (s *blockStream) arm(now time.Duration) time.Duration {
	if !s.on {
		return never // it has nothing to log
	}
	s.open()
	s.enter(streamRunning, now)
	s.status(remoteStart, ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK)
	return now
}

// refused takes word that the autopilot does not arm because nobody takes its stream.
func (s *blockStream) refused(now time.Duration) {
	if s.state == streamRunning && s.out == nil && now-max(s.heard, s.since) > remoteRefused {
		s.l.cfg.Event("log_stream_silent", "why=\"the autopilot misses its reader; asked to begin anew\"")
		s.force(now)
	}
}
